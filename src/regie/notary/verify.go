// Checks a bundle of Regie's audit log with the Go project's own code for logs (golang.org/x/mod/sumdb).
//
//	go run verify.go FOLDER [KEPT-CHECKPOINT]
//
// It needs a bundle of the whole log, from its first record on.
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "WRONG %s: %v\n", what, err)
		os.Exit(1)
	}
}

func read(name string) string {
	data, err := os.ReadFile(filepath.Join(os.Args[1], name))
	check(err, name)
	return string(data)
}

// open checks the signature of a checkpoint and gives its size and root.
func open(text, vkey, what string) (int64, tlog.Hash) {
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey))
	check(err, what)
	signed, err := note.Open([]byte(text), note.VerifierList(verifier))
	check(err, what)
	lines := strings.Split(signed.Text, "\n")
	if lines[0] != verifier.Name() {
		check(fmt.Errorf("it is of %s", lines[0]), what)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, what)
	return size, hash(lines[2], what)
}

func hash(text, what string) tlog.Hash {
	data, err := base64.StdEncoding.DecodeString(text)
	check(err, what)
	var found tlog.Hash
	copy(found[:], data)
	return found
}

type hashes []tlog.Hash

func (all hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		if index >= int64(len(all)) {
			return nil, fmt.Errorf("records are missing")
		}
		found[at] = all[index]
	}
	return found, nil
}

// logged gives the hashes of the records, 32 bytes each, as the tiles have them (c2sp.org/tlog-tiles).
func logged(size int64) string {
	var found strings.Builder
	for n := int64(0); n*256 < size; n++ {
		width := 256
		if size-n*256 < 256 {
			width = int(size - n*256)
		}
		tile := tlog.Tile{H: 8, L: 0, N: n, W: width}
		found.WriteString(read(strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
	}
	return found.String()
}

func main() {
	size, root := open(read("checkpoint"), read("log.vkey"), "signature of the checkpoint")
	var all hashes
	tiles := logged(size)
	records := bytes.Split([]byte(read("leaves.jsonl")), []byte("\n"))
	for n, record := range records[:len(records)-1] {
		hash := tlog.RecordHash(record)
		if len(tiles) < (n+1)*32 || tiles[n*32:(n+1)*32] != string(hash[:]) {
			check(fmt.Errorf("record %d is not what was logged", n), "records")
		}
		stored, err := tlog.StoredHashes(int64(n), record, all)
		check(err, "records")
		all = append(all, stored...)
	}
	found, err := tlog.TreeHash(size, all)
	check(err, "root")
	if found != root || int64(len(records)-1) != size {
		check(fmt.Errorf("the records are not those of the checkpoint"), "root")
	}
	parts := strings.SplitN(read("anchor.tlog-proof"), "\n\n", 2)
	lines := strings.Split(parts[0], "\n")
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	check(err, "anchor")
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		proof = append(proof, hash(line, "anchor"))
	}
	anchorSize, anchorRoot := open(parts[1], read("anchor.vkey"), "signature of the anchor")
	check(tlog.CheckRecord(proof, anchorSize, anchorRoot, index, tlog.RecordHash([]byte(read("anchored")))), "anchor")
	if len(os.Args) > 2 {
		kept, err := os.ReadFile(os.Args[2])
		check(err, "kept checkpoint")
		oldSize, oldRoot := open(string(kept), read("log.vkey"), "signature of the kept checkpoint")
		path, err := tlog.ProveTree(size, oldSize, all)
		check(err, "kept checkpoint")
		check(tlog.CheckTree(path, size, root, oldSize, oldRoot), "kept checkpoint")
	}
	fmt.Printf("ok %d records, root %s\n", size, root)
}
