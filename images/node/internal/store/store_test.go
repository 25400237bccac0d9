package store

import (
	"errors"
	"path/filepath"
	"testing"
)

func TestStateSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db", "state.db")
	first, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Unlock("secret"); err != nil {
		t.Fatal(err)
	}
	key := Key{Resource: "nodes", Name: "a"}
	if _, err := first.Create(key, Object{"spec": Object{"n": 1.0}}); err != nil {
		t.Fatal(err)
	}
	first.Keep("server-ca.crt", []byte("pem"))
	if err := first.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Unlock("other"); !errors.Is(err, ErrOtherToken) {
		t.Errorf("other token: %v", err)
	}
	if err := again.Unlock("secret"); err != nil || string(again.File("server-ca.crt")) != "pem" {
		t.Errorf("same token: %v", err)
	}
	object, err := again.Get(key)
	if err != nil || Field(object, "spec", "n") != 1.0 {
		t.Errorf("%v, %v", object, err)
	}
	if again.Version() <= first.Version() {
		t.Error("versions are given twice")
	}
	if _, _, known := again.Since(first.Version()); known {
		t.Error("a watch of before the restart has to start anew")
	}
}

func TestNothingChangedMakesNoEvent(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Resource: "nodes", Name: "a"}
	if _, err := s.Create(key, Object{}); err != nil {
		t.Fatal(err)
	}
	before := s.Version()
	if _, err := s.Update(key, func(o Object) (Object, error) { return o, nil }); err != nil || s.Version() != before {
		t.Errorf("%d instead of %d, %v", s.Version(), before, err)
	}
}
