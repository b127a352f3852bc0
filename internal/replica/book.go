package replica

import (
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// book is what the cache knows. Cache.mu guards it. It decides what is to be
// done and does none of it.
type book struct {
	random func() float64 // what jitter is drawn from

	config    snapshot.VersionedConfig
	handed    int64     // config version OnConfig was last told of
	handedAt  time.Time // when
	startedAt time.Time // when Run began; zero before

	head     snapshot.Head // the newest one read
	seen     bool          // one was read at all
	lookAt   time.Time     // when the look that read it started
	lookErr  error         // why the newest look failed; nil when it did not
	failedAt time.Time     // when looks began to fail
	pullErr  error         // why the newest pull did not bring us to the head

	last     *View  // the newest content, whether readers may use it or not
	slots    []slot // by Kind.Index
	complete bool   // everything that has to be there once was; what is missed since does not make us unready
	source   sourceBook
	restored restoreBook

	verifiedAt time.Time // start of the newest look that found last equal to the head
	provenAt   time.Time // the same, or start of the newest source load, if that is later

	state   snapshot.State
	reason  string         // why it is not fresh; "" when it is
	public  string         // the same for anybody
	logged  snapshot.State // the state last logged
	changed chan struct{}  // closed at the next event
}

// slot is what the book holds on one kind.
type slot struct {
	kind        snapshot.Kind
	snap        *snapshot.Snapshot // the newest content; nil before the first
	incarnation string             // the data set its tag belongs to
	takenAt     time.Time
	confirmedAt time.Time      // start of the newest load of the source that it was taken from or found equal to
	floor       snapshot.Order // the highest order ever taken
	placed      snapshot.Order // the highest order that Redis had of what was taken from there
	dirty       uint64         // counts the invalid heads seen
	clean       uint64         // dirty, as it stood when the pull of snap began
	void        snapshot.Tag   // the invalid tag last seen
	voidIn      string         // the data set it belongs to
	until       time.Time      // readers wait for the reload until then; zero: not asked for yet
	asked       bool           // a reader wants it now, whether or not it is warmed ahead
	hold        hold
	outdated    bool         // the head has another or none, and there was nothing to take from it
	damaged     bool         // snap is not what its tag says: it is to be pulled whole, whatever the head names
	told        snapshot.Tag // what the registry was last to hear of it
	toldIn      string       // and of which data set
	skewed      int          // schema of what a later release wrote since; 0: none, or it can be read again
}

// hold remembers content that could not be taken, so that it is neither pulled
// again at every look nor forgotten.
type hold struct {
	tag     snapshot.Tag
	why     string
	below   bool // it is from below the floor
	later   int  // schema of a later release, which wrote it; 0: it is not that
	retryAt time.Time
	wait    time.Duration
}

const maxHold = 30 * time.Second

func newBook(random func() float64) book {
	b := book{
		random:  random,
		config:  snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig()},
		state:   snapshot.StateLoading,
		logged:  snapshot.StateLoading,
		reason:  "no look at Redis yet",
		public:  "no look at Redis yet",
		changed: make(chan struct{}),
		slots:   make([]slot, len(snapshot.Kinds)),
		source:  sourceBook{spread: random()},
	}
	for i, kind := range snapshot.Kinds {
		b.slots[i].kind = kind
	}
	return b
}

func (b *book) slot(kind snapshot.Kind) *slot { return &b.slots[kind.Index()] }

// tag is that of the content held, "" for none and for content of the source.
func (s *slot) tag() snapshot.Tag {
	if s.snap == nil {
		return ""
	}
	return s.snap.Tag
}

// good reports that no invalid head was seen since the pull of snap began.
func (s *slot) good() bool { return s.clean == s.dirty }

// refuse holds back the content of tag, longer each time.
func (b *book) refuse(s *slot, tag snapshot.Tag, why string, first time.Duration) {
	wait := first
	if s.hold.tag == tag {
		wait = min(2*s.hold.wait, maxHold)
	}
	s.hold = hold{tag: tag, why: why, wait: wait, retryAt: time.Now().Add(jitter(wait, b.random))}
}

// noteHead takes over the head that a look begun at start has read. Every new
// invalid tag makes its kind dirty; those kinds are returned.
func (b *book) noteHead(start time.Time, h snapshot.Head, invalidWait time.Duration) (void []snapshot.Kind) {
	for i := range b.slots {
		s := &b.slots[i]
		tag := h.Tags[s.kind]
		if h.Incarnation != b.head.Incarnation {
			s.hold = hold{} // the same tag may name other content now
		}
		if !tag.Invalidated() || tag == b.head.Tags[s.kind] {
			continue
		}
		waiting := !s.good() && !s.until.IsZero()
		s.dirty++
		void = append(void, s.kind)
		s.void, s.voidIn, s.asked = tag, h.Incarnation, false
		if !b.wants(s, tag) {
			s.until = time.Time{}
		} else if !waiting { // else the reload is asked for already: readers wait once for all invalidations in a row
			s.until = time.Now().Add(invalidWait)
		}
	}
	b.head, b.seen, b.lookAt, b.lookErr = h, true, start, nil
	if b.agrees(h) {
		b.pullErr = nil
		b.verify(start, h)
	}
	return void
}

// noteFailure records that a look failed: nothing new is known.
func (b *book) noteFailure(err error) {
	if b.lookErr == nil {
		b.failedAt = time.Now()
	}
	b.lookErr = err
}

// verify records that at start, or later, everything held was what h names.
func (b *book) verify(start time.Time, h snapshot.Head) {
	for i := range b.slots {
		if s := &b.slots[i]; s.snap != nil && s.snap.Tag == h.Tags[s.kind] {
			s.incarnation = h.Incarnation
		}
	}
	b.verifiedAt = later(b.verifiedAt, start)
	b.prove(start)
}

// prove records that the content was found true by a look or load begun at start.
func (b *book) prove(start time.Time) {
	b.provenAt = later(b.provenAt, start)
	b.restored = restoreBook{}
}

// verdict is how one kind compares with a head.
type verdict uint8

const (
	equal   verdict = iota // it is what the head names
	idle                   // the head has none, and nobody wants it now
	behind                 // the head names other content: pull
	held                   // the head names content that could not be taken
	invalid                // the head says that nothing is current
	missing                // the head does not name the kind
	unknown                // there is no head
)

func (b *book) verdict(h snapshot.Head, s *slot) verdict {
	tag := h.Tags[s.kind]
	switch {
	case tag.HasContent() && s.tag() == tag && s.good() && !s.damaged && s.of(h):
		return equal
	case tag.HasContent() && s.hold.tag == tag:
		return held
	case tag.HasContent():
		return behind
	case !b.wants(s, tag):
		return idle
	case !h.Known():
		return unknown
	case tag.Invalidated():
		return invalid
	}
	return missing
}

// of reports whether the order of what is held is that of h's data set. In another
// one the same tag is the same content, and may stand at another place. A copy from
// a file has no data set yet, and is proved like one of another by its order alone.
func (s *slot) of(h snapshot.Head) bool { return s.incarnation == h.Incarnation }

// wants reports whether the kind has to be there although no reader may be
// asking. One that is only marked stale can wait for its next reader.
func (b *book) wants(s *slot, tag snapshot.Tag) bool {
	lazy := tag.Invalidated() && s.snap != nil && !b.config.SmartInvalidation.AutoInvalidateOnUpdate
	return s.asked || (b.config.Warms(s.kind) && !lazy)
}

// agrees reports whether everything held is what h names.
func (b *book) agrees(h snapshot.Head) bool {
	if !h.Known() {
		return false
	}
	for i := range b.slots {
		if v := b.verdict(h, &b.slots[i]); v != equal && v != idle {
			return false
		}
	}
	return true
}

// lacking names a kind that has to be there and never was, and "" for none.
func (b *book) lacking() snapshot.Kind {
	for i := range b.slots {
		if s := &b.slots[i]; s.snap == nil && b.config.Warms(s.kind) {
			return s.kind
		}
	}
	return ""
}

// due reports whether a pull of s is worth a try.
func (b *book) due(s *slot) bool {
	switch b.verdict(b.head, s) {
	case behind:
		return true
	case held:
		return !time.Now().Before(s.hold.retryAt)
	}
	return false
}

// pullable reports whether a pull of anything is worth a try.
func (b *book) pullable() bool {
	if !b.config.Enabled || b.lookErr != nil {
		return false
	}
	for i := range b.slots {
		if b.due(&b.slots[i]) {
			return true
		}
	}
	return false
}

// lack says what Redis has to be warmed with for this kind, and "" if nothing.
func (b *book) lack(s *slot) string {
	if !b.config.Enabled || !b.seen || b.lookErr != nil {
		return ""
	}
	switch tag := b.head.Tags[s.kind]; b.verdict(b.head, s) {
	case unknown:
		return "Redis holds no head"
	case missing:
		return fmt.Sprintf("the head names no %s", s.kind)
	case invalid:
		return fmt.Sprintf("%s was invalidated (%s)", s.kind, tag)
	case held:
		// A warm of ours is no answer to a later release: the refresher sees in
		// the registry what we read, and goes back to that.
		if s.hold.later == 0 {
			return fmt.Sprintf("%s %s: %s", s.kind, tag, s.hold.why)
		}
	}
	return ""
}

// served is the tag this replica stands by: an invalid one once that is seen,
// because the copy before it is no longer served as current. In is the data set
// that the tag belongs to.
func (b *book) served(s *slot) (tag snapshot.Tag, in string) {
	switch tag := b.head.Tags[s.kind]; {
	case !s.good():
		return s.void, s.voidIn
	case s.tag() == "" && tag.Invalidated(): // nothing, or content read after the invalidation
		return tag, b.head.Incarnation
	case !b.config.Enabled:
		return "", ""
	}
	return s.tag(), s.incarnation
}
