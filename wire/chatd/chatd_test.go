package chatd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"godwit/e2e/raw"
	"godwit/internal/dialect"
	"godwit/internal/golden"
	"godwit/wire/command"
)

var ann = [8]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}

// What an old client sends and is sent: only added to.
func TestFrames_AreThoseThatOldClientsKnow(t *testing.T) {
	var b strings.Builder
	for _, f := range []struct {
		name  string
		frame []byte
	}{
		{"hello", Hello{Version: 1}.Append(nil)},
		{"hello-version", Hello{Version: 0x0102}.Append(nil)},
		{"welcome", Welcome{Client: 0x01020304}.Append(nil)},
		{"rtmsg-all", RTMsg{Type: 7, Msg: []byte("hi")}.Append(nil)},
		{"rtmsg-user", RTMsg{User: ann, Type: 255, Msg: []byte{0}}.Append(nil)},
		{"rtmsg-device", RTMsg{User: ann, Client: 0x01020304, Msg: nil}.Append(nil)},
		{"rtmsg-300-bytes", RTMsg{User: ann, Client: 0xffffffff, Msg: bytes.Repeat([]byte{0xaa}, 300)}.Append(nil)},
		{"in-call", InCall{Status: 1}.Append(nil)},
		{"not-in-call", InCall{Status: 0}.Append(nil)},
		{"error", command.Error{About: OpRTMsg, Reason: command.NoRecipient}.Append(nil)},
		{"two", InCall{Status: 1}.Append(RTMsg{Msg: []byte("x")}.Append(nil))},
	} {
		fmt.Fprintf(&b, "%s %x\n", f.name, f.frame)
	}
	golden.Is(t, "testdata/frames.golden", []byte(b.String()))
}

var codec = dialect.Codec{FromClient: FromClient, FromServer: FromServer, Read: read}

func TestFrame_IsReadToItsFirstBadCommand(t *testing.T) {
	const to = "0123456789abcdef 04030201"
	for _, c := range []struct{ name, frame, client, server string }{
		{"nothing", "", "bad 00/1", "bad 00/1"},
		{"HELLO", "01 0100 0000", "01:01000000", "01:01000000"},
		{"HELLO cut", "01 0100 00", "bad 01/1", "bad 01/1"},
		{"HELLO alone", "01", "bad 01/1", "bad 01/1"},
		{"HELLO and a byte", "01 0100 0000 00", "01:01000000 bad 00/2", "01:01000000 bad 00/2"},
		{"IN_CALL", "03 01", "03:01", "03:01"},
		{"IN_CALL cut", "03", "bad 03/1", "bad 03/1"},
		{"two IN_CALL", "03 01 03 00", "03:01 03:00", "03:01 03:00"},
		{"RTMSG empty", "02" + to + "07 000000", "02:0123456789abcdef0403020107000000", "02:0123456789abcdef0403020107000000"},
		{"RTMSG", "02" + to + "07 020000 6869", "02:0123456789abcdef04030201070200006869", "02:0123456789abcdef04030201070200006869"},
		{"RTMSG a byte short", "02" + to + "07 030000 6869", "bad 02/1", "bad 02/1"},
		{"RTMSG without a length", "02" + to + "07 0200", "bad 02/1", "bad 02/1"},
		{"RTMSG alone", "02", "bad 02/1", "bad 02/1"},
		{"RTMSG of 2^24-1 bytes in a short frame", "02" + to + "07 ffffff 6869", "bad 02/1", "bad 02/1"},
		{"a length is little-endian", "02" + to + "07 000001 6869", "bad 02/1", "bad 02/1"},
		{"opcode 0", "00", "bad 00/2", "bad 00/2"},
		{"unknown", "04 03 01", "bad 04/2", "bad 04/2"},
		{"unknown, ff", "ff", "bad ff/2", "bad ff/2"},
		{"statusd's", "10 0123456789abcdef 01", "bad 10/2", "bad 10/2"},
		{"ERROR is the server's", "7f 02 04", "bad 7f/2", "7f:0204"},
		{"ERROR cut", "7f 02", "bad 7f/2", "bad 7f/1"},
		{"what is behind a bad one is not read", "03 01 09 03 00", "03:01 bad 09/2", "03:01 bad 09/2"},
		{"what is behind a cut one is its body", "03 01 02 03 00", "03:01 bad 02/1", "03:01 bad 02/1"},
	} {
		t.Run(c.name, func(t *testing.T) { codec.Says(t, c.frame, c.client, c.server) })
	}
}

func TestRTMsg_TheLongestOneComesBackAndOneByteLessIsMalformed(t *testing.T) {
	m := RTMsg{User: ann, Client: 7, Type: 1, Msg: bytes.Repeat([]byte{0x5a}, MaxMsg)}
	frame := InCall{Status: 1}.Append(m.Append(nil))
	f := FromClient(frame)
	if !f.Next() {
		t.Fatalf("refused: %+v", f.Bad())
	}
	if got := ReadRTMsg(f.Body()); got.User != m.User || got.Client != 7 || got.Type != 1 || !bytes.Equal(got.Msg, m.Msg) {
		t.Errorf("came back with %d bytes", len(got.Msg))
	}
	if !f.Next() || f.Op() != OpInCall || f.Next() || f.Bad().Reason != 0 {
		t.Errorf("what is behind it is opcode %x, %+v", f.Op(), f.Bad())
	}
	f = FromClient(frame[:len(frame)-3])
	if f.Next() || f.Bad() != (command.Error{About: OpRTMsg, Reason: command.Malformed}) {
		t.Errorf("a byte short: %+v", f.Bad())
	}
}

func TestFrame_AfterARefusedCommandNothingIsRead(t *testing.T) {
	f := FromClient(raw.Hex("03 02 03 01"))
	if !f.Next() {
		t.Fatal(f.Bad())
	}
	f.Refuse()
	if f.Next() || f.Bad() != (command.Error{About: OpInCall, Reason: command.Malformed}) {
		t.Errorf("after it: opcode %x, %+v", f.Op(), f.Bad())
	}
}

func user(t *rapid.T) [8]byte {
	return [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "user"))
}

func message(t *rapid.T) RTMsg {
	return RTMsg{
		User: user(t), Client: rapid.Uint32().Draw(t, "client"), Type: rapid.Byte().Draw(t, "type"),
		Msg: rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "msg"),
	}
}

func TestFrame_WhatWasWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var frame []byte
		var want []any
		server := rapid.Bool().Draw(t, "server")
		for range rapid.IntRange(1, 8).Draw(t, "commands") {
			switch pick := rapid.IntRange(0, 3).Draw(t, "command"); {
			case pick == 0 && server:
				w := Welcome{Client: rapid.Uint32().Draw(t, "id")}
				frame, want = w.Append(frame), append(want, w)
			case pick == 0:
				h := Hello{Version: rapid.Uint16().Draw(t, "version")}
				frame, want = h.Append(frame), append(want, h)
			case pick == 1 && server:
				e := command.Error{About: rapid.Byte().Draw(t, "about"), Reason: command.Reason(rapid.Byte().Draw(t, "reason"))}
				frame, want = e.Append(frame), append(want, e)
			case pick == 2:
				c := InCall{Status: rapid.Byte().Draw(t, "status")}
				frame, want = c.Append(frame), append(want, c)
			default:
				m := message(t)
				frame, want = m.Append(frame), append(want, m)
			}
		}
		codec.Reads(t, frame, server, want)
	})
}

func read(op byte, body []byte, server bool) any {
	switch {
	case op == OpHello && server:
		return ReadWelcome(body)
	case op == OpHello:
		return ReadHello(body)
	case op == OpRTMsg:
		return ReadRTMsg(body)
	case op == OpInCall:
		return ReadInCall(body)
	}
	return command.ReadError(body)
}

func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		"", "01 0100 0000", "03 01 03 00", "02 0123456789abcdef 04030201 07 020000 6869 03 01",
		"02 0123456789abcdef 04030201 07 ffffff", "7f 02 04", "00", "01 01",
	} {
		f.Add(raw.Hex(s), true)
		f.Add(raw.Hex(s), false)
	}
	f.Fuzz(func(t *testing.T, frame []byte, server bool) {
		codec.Walks(t, frame, server, func(cmd any, whole []byte) (again []byte) {
			switch c := cmd.(type) {
			case Hello: // what is reserved is not kept
				again = append(c.Append(nil)[:3], whole[3:]...)
			case Welcome:
				again = c.Append(nil)
			case RTMsg:
				again = c.Append(nil)
			case InCall:
				again = c.Append(nil)
			case command.Error:
				again = c.Append(nil)
			}
			return again
		})
	})
}

// BenchmarkFromClient is a frame of 16 messages.
func BenchmarkFromClient(b *testing.B) {
	var frame []byte
	for range 16 {
		frame = RTMsg{User: ann, Msg: bytes.Repeat([]byte("x"), 200)}.Append(frame)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		n := 0
		for f := FromClient(frame); f.Next(); {
			n += len(ReadRTMsg(f.Body()).Msg)
		}
		if n != 16*200 {
			b.Fatal(n)
		}
	}
}
