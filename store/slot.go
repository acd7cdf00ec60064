package store

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// slots is the number of slots of every Redis Cluster.
const slots = 16384

// crcTable is that of CRC-16/XMODEM, by which a Cluster finds a key's slot.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// slotOf is the slot of a key: that of its hash tag, if it has one.
func slotOf(key string) int {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			key = tag
		}
	}
	return int(crc16(key) % slots)
}

// crc16 is CRC-16/XMODEM.
func crc16(s string) uint16 {
	crc := uint16(0)
	for i := range len(s) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^s[i]]
	}
	return crc
}

// keyOf is a command's first key, or its channel, by which a Cluster routes it;
// empty where any primary will do.
func keyOf(cmd redis.Cmder) string {
	args, at := cmd.Args(), 1
	switch cmd.Name() {
	case "eval", "evalsha":
		at = 3
	case "ping", "time", "flushall", "script", "keys", "scan", "info", "dbsize", "multi", "exec", "command", "cluster":
		return ""
	}
	if at >= len(args) {
		return ""
	}
	key, _ := args[at].(string)
	return key
}
