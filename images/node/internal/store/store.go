// Package store keeps the cluster's objects: in memory with a numbered history that watches read, and in one file that is
// replaced as a whole, so that a power cut leaves either the old state or the new one.
package store

import (
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"

	"k3arm.dev/images/node/internal/token"
)

// Object is a Kubernetes object as JSON decodes it. Objects in the store are never changed in place: a change stores a new one.
type Object = map[string]interface{}

// Key is the place of an object. Namespace is empty for cluster-wide ones.
type Key struct {
	Resource  string // plural name with its group, such as "nodes" or "leases.coordination.k8s.io"
	Namespace string
	Name      string
}

// EventType is what happened to an object.
type EventType string

// The three things that happen to objects.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
)

// Event is one step of the history.
type Event struct {
	Type    EventType
	Version uint64
	Key     Key
	Object  Object
}

// history is how many steps watches can look back; older versions are gone for them.
const history = 1000

// Store holds all objects of a cluster.
type Store struct {
	mutex   sync.Mutex
	objects map[Key]Object
	events  []Event
	version uint64
	changed chan struct{} // closed and replaced with every change
	dirty   chan struct{}
	secrets Bootstrap
	path    string
}

// NotFound, Exists and Conflict are why a change is refused.
var (
	ErrNotFound = fmt.Errorf("not found")
	ErrExists   = fmt.Errorf("already exists")
	ErrConflict = fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again")
)

// Version is the number of the latest change.
func (s *Store) Version() uint64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.version
}

// Get gives an object.
func (s *Store) Get(key Key) (Object, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if object, ok := s.objects[key]; ok {
		return object, nil
	}
	return nil, ErrNotFound
}

// List gives the objects of a resource, of one namespace or of all if it is empty, in order, and the version they stand for.
func (s *Store) List(resource, namespace string) ([]Object, uint64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var keys []Key
	for key := range s.objects {
		if key.Resource == resource && (namespace == "" || key.Namespace == namespace) {
			keys = append(keys, key)
		}
	}
	sort.Slice(keys, func(i, j int) bool {
		if keys[i].Namespace != keys[j].Namespace {
			return keys[i].Namespace < keys[j].Namespace
		}
		return keys[i].Name < keys[j].Name
	})
	objects := make([]Object, 0, len(keys))
	for _, key := range keys {
		objects = append(objects, s.objects[key])
	}
	return objects, s.version
}

// Create adds an object and gives it its identity.
func (s *Store) Create(key Key, object Object) (Object, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, ok := s.objects[key]; ok {
		return nil, ErrExists
	}
	object = Copy(object)
	metadata := Metadata(object)
	metadata["name"] = key.Name
	if key.Namespace != "" {
		metadata["namespace"] = key.Namespace
	}
	metadata["uid"] = newUID()
	metadata["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	s.put(Added, key, object)
	return object, nil
}

// Update replaces an object by what change makes of a copy of it. If the result carries a resourceVersion, it has to be the
// stored one. A change that changes nothing makes no event.
func (s *Store) Update(key Key, change func(Object) (Object, error)) (Object, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	before, ok := s.objects[key]
	if !ok {
		return nil, ErrNotFound
	}
	after, err := change(Copy(before))
	if err != nil {
		return nil, err
	}
	metadata, stored := Metadata(after), Metadata(before)
	if version, _ := metadata["resourceVersion"].(string); version != "" && version != stored["resourceVersion"] {
		return nil, ErrConflict
	}
	for _, field := range []string{"uid", "creationTimestamp", "name", "namespace", "resourceVersion"} {
		if value, ok := stored[field]; ok {
			metadata[field] = value
		}
	}
	if equal(before, after) {
		return before, nil
	}
	s.put(Modified, key, after)
	return after, nil
}

// Delete removes an object. Its last state, with the version of the removal, is returned.
func (s *Store) Delete(key Key) (Object, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	object, ok := s.objects[key]
	if !ok {
		return nil, ErrNotFound
	}
	object = Copy(object)
	s.put(Deleted, key, object)
	delete(s.objects, key)
	return object, nil
}

// put numbers a change, records it and wakes whoever waits for one.
func (s *Store) put(kind EventType, key Key, object Object) {
	s.version++
	Metadata(object)["resourceVersion"] = strconv.FormatUint(s.version, 10)
	s.objects[key] = object
	s.events = append(s.events, Event{kind, s.version, key, object})
	if len(s.events) > 2*history {
		s.events = append([]Event(nil), s.events[len(s.events)-history:]...)
	}
	close(s.changed)
	s.changed = make(chan struct{})
	if key.Resource != Leases { // heartbeats are not worth a write, they are void after a restart anyway
		select {
		case s.dirty <- struct{}{}:
		default:
		}
	}
}

// Since gives the events after a version, a channel that closes with the next change, and whether the history reaches back
// that far.
func (s *Store) Since(version uint64) (events []Event, next <-chan struct{}, known bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if version > s.version || (len(s.events) > 0 && version+1 < s.events[0].Version) || (len(s.events) == 0 && version < s.version) {
		return nil, nil, false
	}
	first := sort.Search(len(s.events), func(i int) bool { return s.events[i].Version > version })
	return append([]Event(nil), s.events[first:]...), s.changed, true
}

func newUID() string {
	r := token.Random()
	return r[:8] + "-" + r[8:12] + "-4" + r[13:16] + "-a" + r[17:20] + "-" + r[20:]
}
