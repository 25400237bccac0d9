package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

func TestAuthorityIsMadeOnce(t *testing.T) {
	directory := t.TempDir()
	first, err := LoadOrCreate(directory, "server-ca")
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreate(directory, "server-ca")
	if err != nil || string(again.Bundle) != string(first.Bundle) {
		t.Fatalf("%v", err)
	}
	if err := os.Remove(filepath.Join(directory, "server-ca.key")); err != nil {
		t.Fatal(err)
	}
	other, err := LoadOrCreate(directory, "server-ca")
	if err != nil || string(other.Bundle) == string(first.Bundle) {
		t.Errorf("a certificate without its key is replaced: %v", err)
	}
}

func TestHashIsThatOfTheFile(t *testing.T) {
	authority, err := LoadOrCreate(t.TempDir(), "server-ca")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(authority.Bundle)
	if got, err := Hash(authority.Bundle); err != nil || got != hex.EncodeToString(sum[:]) {
		t.Errorf("one certificate: %s, %v", got, err)
	}
	// With a chain it is the root's, in DER form: an intermediate may change.
	chain := append(append([]byte(nil), authority.Bundle...), authority.Bundle...)
	sum = sha256.Sum256(authority.Certificate.Raw)
	if got, err := Hash(chain); err != nil || got != hex.EncodeToString(sum[:]) {
		t.Errorf("chain: %s, %v", got, err)
	}
}

func TestLeaves(t *testing.T) {
	directory := t.TempDir()
	authority, err := LoadOrCreate(directory, "client-ca")
	if err != nil {
		t.Fatal(err)
	}
	other, err := LoadOrCreate(directory, "other-ca")
	if err != nil {
		t.Fatal(err)
	}
	key, err := LoadOrCreateKey(filepath.Join(directory, "key"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := authority.Sign(Leaf{CommonName: "system:admin", Organizations: []string{"system:masters"}, Usage: x509.ExtKeyUsageClientAuth}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificates[0]
	if err := authority.Verify(leaf); err != nil {
		t.Error(err)
	}
	if other.Verify(leaf) == nil {
		t.Error("a foreign authority vouched for it")
	}
	if !leaf.NotBefore.Equal(authority.Certificate.NotBefore) {
		t.Errorf("valid from %s, the authority from %s", leaf.NotBefore, authority.Certificate.NotBefore)
	}
}
