package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/pki"
	"k3arm.dev/images/node/internal/token"
)

// choosePasswords takes the server's secret from the settings, from an earlier start, or makes one. Agents have the same
// unless they were given one of their own.
func (s *server) choosePasswords() error {
	text, err := s.secret("token")
	if err != nil {
		return err
	}
	if text == "" {
		earlier, err := os.ReadFile(filepath.Join(s.directory, "token"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		text = string(earlier)
	}
	if text == "" {
		text = token.Random()
	}
	parsed, err := token.Parse(text)
	if err != nil {
		return fmt.Errorf("failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>: %w", err)
	}
	s.password, s.agentPassword = parsed.Password, parsed.Password
	if text, err = s.secret("agent-token"); err != nil || text == "" {
		return err
	}
	if parsed, err = token.Parse(text); err != nil {
		return err
	}
	s.agentPassword = parsed.Password
	return nil
}

// secret reads a flag that may also name a file.
func (s *server) secret(flag string) (string, error) {
	if path := s.settings.Text(flag + "-file"); path != "" {
		content, err := os.ReadFile(path)
		return strings.TrimSpace(string(content)), err
	}
	return s.settings.Text(flag), nil
}

// writeTokens leaves the full tokens where people and k3arm look for them.
func (s *server) writeTokens() error {
	hash, err := pki.Hash(s.serverCA.Bundle)
	if err != nil {
		return err
	}
	path := filepath.Join(s.directory, "token")
	full := token.Token{Hash: hash, User: "server", Password: s.password}
	if err := os.WriteFile(path, []byte(full.String()+"\n"), 0o600); err != nil {
		return err
	}
	if err := link(path, filepath.Join(s.directory, "node-token")); err != nil {
		return err
	}
	logging.Info("Server node token is available at %s", path)
	s.printJoin("server node", "server", "SERVER_NODE_TOKEN")

	agentPath := filepath.Join(s.directory, "agent-token")
	if s.agentPassword == s.password {
		err = link(path, agentPath)
	} else {
		_ = os.Remove(agentPath)
		own := token.Token{Hash: hash, User: "node", Password: s.agentPassword}
		err = os.WriteFile(agentPath, []byte(own.String()+"\n"), 0o600)
	}
	logging.Info("Agent node token is available at %s", agentPath)
	s.printJoin("agent node", "agent", "AGENT_NODE_TOKEN")
	return err
}

func link(target, path string) error {
	_ = os.Remove(path)
	return os.Symlink(target, path)
}

func (s *server) printJoin(what, command, variable string) {
	logging.Info("To join %s to cluster: k3s %s -s https://%s:%d -t ${%s}", what, command, s.address, s.port(), variable)
}
