package token

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for text, want := range map[string]Token{
		"secret":                            {Password: "secret"},
		" secret\n":                         {Password: "secret"},
		"K10" + hash + "::server:pass":      {hash, "server", "pass"},
		"K10" + hash + "::node:with:colons": {hash, "node", "with:colons"},
		"K10::server:pass":                  {"", "server", "pass"},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                        "token must not be empty",
		"K10ab::server:pass":      "invalid token CA hash length",
		"K10" + hash + "::server": "invalid token format",
	} {
		if _, err := Parse(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	full := Token{hash, "server", "pass"}
	if again, err := Parse(full.String()); err != nil || again != full {
		t.Errorf("%v, %v", again, err)
	}
}
