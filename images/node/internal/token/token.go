// Package token reads and writes join tokens: `K10<CA hash>::<user>:<password>`, or the password alone.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

const prefix = "K10"

// Token is a parsed join token. Hash is empty in the short form.
type Token struct {
	Hash     string
	User     string
	Password string
}

// Parse reads either form.
func Parse(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Token{}, errors.New("token must not be empty")
	}
	if !strings.HasPrefix(text, prefix) {
		return Token{Password: text}, nil
	}
	hash, credentials := "", text[len(prefix):]
	if at := strings.Index(credentials, "::"); at >= 0 {
		hash, credentials = credentials[:at], credentials[at+2:]
	}
	if hash != "" && len(hash) != hex.EncodedLen(sha256.Size) {
		return Token{}, errors.New("invalid token CA hash length")
	}
	parts := strings.SplitN(credentials, ":", 2)
	if len(parts) != 2 || parts[1] == "" {
		return Token{}, errors.New("invalid token format")
	}
	return Token{Hash: hash, User: parts[0], Password: parts[1]}, nil
}

// String gives the full form.
func (t Token) String() string {
	return prefix + t.Hash + "::" + t.User + ":" + t.Password
}

// Random makes a secret of 16 bytes in hexadecimal digits.
func Random() string {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		panic(err) // the kernel's generator does not fail
	}
	return hex.EncodeToString(secret)
}
