package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"strconv"
	"time"

	"k3arm.dev/images/node/internal/store"
)

// bookmarkEvery is how often a quiet watch is told the current version.
const bookmarkEvery = time.Minute

func (h *Handler) list(w http.ResponseWriter, r *http.Request, t target) {
	matches, err := parseSelectors(r.URL.Query())
	if err != nil {
		SendFailure(w, BadRequest(err.Error()))
		return
	}
	if on, _ := strconv.ParseBool(r.URL.Query().Get("watch")); on {
		h.watch(w, r, t, matches)
		return
	}
	objects, at := h.Store.List(t.resource.key(), t.namespace)
	selected := []store.Object{}
	for _, object := range objects {
		if matches(object) {
			selected = append(selected, object)
		}
	}
	version := strconv.FormatUint(at, 10)
	if format := tableFormat(r); format != "" {
		Send(w, http.StatusOK, table(format, t.resource, selected, version))
		return
	}
	Send(w, http.StatusOK, store.Object{
		"kind": t.resource.Kind + "List", "apiVersion": t.resource.apiVersion(),
		"metadata": store.Object{"resourceVersion": version}, "items": selected,
	})
}

// stream is one running watch.
type stream struct {
	handler *Handler
	target  target
	matches selector
	writer  http.ResponseWriter
	format  string // of a Table, or nothing
	sent    bool   // a Table's columns go out once
	// shown are the objects that the client knows of: one that stops matching is deleted for it.
	shown map[store.Key]bool
}

func (h *Handler) watch(w http.ResponseWriter, r *http.Request, t target, matches selector) {
	query := r.URL.Query()
	ctx, cancel := context.WithTimeout(r.Context(), watchTimeout(query.Get("timeoutSeconds")))
	defer cancel()
	s := &stream{handler: h, target: t, matches: matches, writer: w, format: tableFormat(r), shown: map[store.Key]bool{}}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)

	from, err := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	initial := query.Get("sendInitialEvents") == "true"
	bookmarks := query.Get("allowWatchBookmarks") == "true"
	if err != nil || from == 0 || initial {
		from = s.sendInitial(initial && bookmarks)
	} else {
		s.rememberAll()
	}
	s.flush()
	s.follow(ctx, from, bookmarks)
}

func watchTimeout(seconds string) time.Duration {
	if n, err := strconv.Atoi(seconds); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	return 30*time.Minute + time.Duration(rand.Int63n(int64(30*time.Minute)))
}

// sendInitial sends what there is as added, and if asked for the mark that this was all.
func (s *stream) sendInitial(mark bool) uint64 {
	objects, version := s.handler.Store.List(s.target.resource.key(), s.target.namespace)
	for _, object := range objects {
		key := store.Key{Resource: s.target.resource.key(), Namespace: store.Text(object, "metadata", "namespace"), Name: store.Text(object, "metadata", "name")}
		s.send(store.Event{Type: store.Added, Key: key, Object: object})
	}
	if mark {
		s.bookmark(version, store.Object{"k8s.io/initial-events-end": "true"})
	}
	return version
}

// rememberAll assumes that a client that resumes knows what exists now; at worst it hears of a deletion it has no use for.
func (s *stream) rememberAll() {
	objects, _ := s.handler.Store.List(s.target.resource.key(), s.target.namespace)
	for _, object := range objects {
		if s.matches(object) {
			s.shown[store.Key{Resource: s.target.resource.key(), Namespace: store.Text(object, "metadata", "namespace"), Name: store.Text(object, "metadata", "name")}] = true
		}
	}
}

func (s *stream) follow(ctx context.Context, version uint64, bookmarks bool) {
	ticker := time.NewTicker(bookmarkEvery)
	defer ticker.Stop()
	for {
		events, next, known := s.handler.Store.Since(version)
		if !known {
			s.write("ERROR", expired(fmt.Sprintf("too old resource version: %d (%d)", version, s.handler.Store.Version())).Object())
			s.flush()
			return
		}
		for _, event := range events {
			version = event.Version
			s.send(event)
		}
		s.flush()
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-ticker.C:
			if bookmarks {
				s.bookmark(version, nil)
			}
		}
	}
}

func (s *stream) send(event store.Event) {
	inPlace := event.Key.Resource == s.target.resource.key() && (s.target.namespace == "" || s.target.namespace == event.Key.Namespace)
	if !inPlace {
		return
	}
	wanted, known := s.matches(event.Object) && event.Type != store.Deleted, s.shown[event.Key]
	kind := string(event.Type)
	switch {
	case wanted && !known:
		kind = string(store.Added)
		s.shown[event.Key] = true
	case !wanted && known:
		kind = string(store.Deleted)
		delete(s.shown, event.Key)
	case !wanted && event.Type != store.Deleted, !wanted && !s.matches(event.Object):
		return
	}
	if s.format == "" {
		s.write(kind, withKind(event.Object, s.target.resource))
		return
	}
	rows := table(s.format, s.target.resource, []store.Object{event.Object}, store.Text(event.Object, "metadata", "resourceVersion"))
	if s.sent {
		rows["columnDefinitions"] = nil
	}
	s.sent = true
	s.write(kind, rows)
}

func (s *stream) bookmark(version uint64, annotations store.Object) {
	metadata := store.Object{"resourceVersion": strconv.FormatUint(version, 10), "creationTimestamp": nil}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	s.write("BOOKMARK", withKind(store.Object{"metadata": metadata}, s.target.resource))
}

func (s *stream) write(kind string, object store.Object) {
	data, err := json.Marshal(struct {
		Type   string       `json:"type"`
		Object store.Object `json:"object"`
	}{kind, object})
	if err == nil {
		_, _ = s.writer.Write(append(data, '\n'))
	}
}

func (s *stream) flush() {
	if flusher, ok := s.writer.(http.Flusher); ok {
		flusher.Flush()
	}
}
