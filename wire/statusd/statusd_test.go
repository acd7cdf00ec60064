package statusd

import (
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
		{"hello", Hello{Version: 1, Presence: 3}.Append(nil)},
		{"hello-auto", Hello{Version: 0x0102, Presence: Auto | 127}.Append(nil)},
		{"pres", Pres{User: ann, Presence: 3}.Append(nil)},
		{"pres-self", Pres{Presence: 127}.Append(nil)},
		{"setpres", SetPres{Presence: 1}.Append(nil)},
		{"setpres-auto", SetPres{Presence: Auto | 2}.Append(nil)},
		{"error", command.Error{About: OpSetPres, Reason: command.RateLimited}.Append(nil)},
		{"two", Pres{Presence: 3}.Append(Pres{User: ann, Presence: 2}.Append(nil))},
	} {
		fmt.Fprintf(&b, "%s %x\n", f.name, f.frame)
	}
	golden.Is(t, "testdata/frames.golden", []byte(b.String()))
}

var codec = dialect.Codec{FromClient: FromClient, FromServer: FromServer, Read: read}

func TestFrame_IsReadToItsFirstBadCommand(t *testing.T) {
	for _, c := range []struct{ name, frame, client, server string }{
		{"nothing", "", "bad 00/1", "bad 00/1"},
		{"HELLO is the client's", "01 0100 83 00", "01:01008300", "bad 01/2"},
		{"HELLO cut", "01 0100 83", "bad 01/1", "bad 01/2"},
		{"HELLO alone", "01", "bad 01/1", "bad 01/2"},
		{"SETPRES is the client's", "11 03", "11:03", "bad 11/2"},
		{"SETPRES cut", "11", "bad 11/1", "bad 11/2"},
		{"two SETPRES", "11 03 11 82", "11:03 11:82", "bad 11/2"},
		{"PRES is the server's", "10 0123456789abcdef 01", "bad 10/2", "10:0123456789abcdef01"},
		{"PRES cut", "10 0123456789abcdef", "bad 10/2", "bad 10/1"},
		{"two PRES", "10 0123456789abcdef 01 10 0000000000000000 03", "bad 10/2", "10:0123456789abcdef01 10:000000000000000003"},
		{"ERROR is the server's", "7f 11 05", "bad 7f/2", "7f:1105"},
		{"ERROR cut", "7f 11", "bad 7f/2", "bad 7f/1"},
		{"opcode 0", "00", "bad 00/2", "bad 00/2"},
		{"chatd's", "03 01", "bad 03/2", "bad 03/2"},
		{"what is behind a bad one is not read", "11 03 09 11 02", "11:03 bad 09/2", "bad 11/2"},
	} {
		t.Run(c.name, func(t *testing.T) { codec.Says(t, c.frame, c.client, c.server) })
	}
}

func TestPres_NeverTellsWhoChoseIt(t *testing.T) {
	if got := (Pres{User: ann, Presence: Auto | 3}).Append(nil)[9]; got != 3 {
		t.Errorf("presence is %#x on the wire, want 3", got)
	}
}

func TestFrame_WhatWasWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var frame []byte
		var want []any
		server := rapid.Bool().Draw(t, "server")
		for range rapid.IntRange(1, 8).Draw(t, "commands") {
			switch first := rapid.Bool().Draw(t, "first"); {
			case first && server:
				e := command.Error{About: rapid.Byte().Draw(t, "about"), Reason: command.Reason(rapid.Byte().Draw(t, "reason"))}
				frame, want = e.Append(frame), append(want, e)
			case server:
				p := Pres{
					User:     [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "user")),
					Presence: rapid.ByteMax(127).Draw(t, "presence"),
				}
				frame, want = p.Append(frame), append(want, p)
			case first:
				h := Hello{Version: rapid.Uint16().Draw(t, "version"), Presence: rapid.Byte().Draw(t, "presence")}
				frame, want = h.Append(frame), append(want, h)
			default:
				s := SetPres{Presence: rapid.Byte().Draw(t, "presence")}
				frame, want = s.Append(frame), append(want, s)
			}
		}
		codec.Reads(t, frame, server, want)
	})
}

func read(op byte, body []byte, _ bool) any {
	switch op {
	case OpHello:
		return ReadHello(body)
	case OpPres:
		return ReadPres(body)
	case OpSetPres:
		return ReadSetPres(body)
	}
	return command.ReadError(body)
}

func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		"", "01 0100 83 00", "11 03 11 82", "10 0123456789abcdef 01 10 0000000000000000 03", "7f 11 05", "00", "01 01",
	} {
		f.Add(raw.Hex(s), true)
		f.Add(raw.Hex(s), false)
	}
	f.Fuzz(func(t *testing.T, frame []byte, server bool) {
		codec.Walks(t, frame, server, func(cmd any, whole []byte) (again []byte) {
			switch c := cmd.(type) {
			case Hello: // what is reserved is not kept
				again = append(c.Append(nil)[:4], whole[4])
			case Pres: // bit 7 is not written
				again = c.Append(nil)
				again[9] |= whole[9] & Auto
			case SetPres:
				again = c.Append(nil)
			case command.Error:
				again = c.Append(nil)
			}
			return again
		})
	})
}
