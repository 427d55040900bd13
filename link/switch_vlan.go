package link

import (
	"encoding/binary"
	"fmt"
	"iter"
	"syscall"

	"github.com/seed87e66d9f/waybill/ethernet"
)

const (
	// vlanID is the part of a tag that names the VLAN; the other four bits are the priority (IEEE 802.1Q §9.6).
	vlanID = 0x0fff
	// maxVLAN is the last number of a VLAN: 4095 is reserved (IEEE 802.1Q table 9-2).
	maxVLAN = 4094
	// noTag stands for a frame without a tag, where a tag is 16 bits.
	noTag = -1
)

// check finds numbers of VLANs that cannot be.
func (c *PortConfig) check() error {
	if c.VLAN > maxVLAN {
		return fmt.Errorf("link: VLAN %d is not between 1 and %d: %w", c.VLAN, maxVLAN, syscall.EINVAL)
	}
	for _, v := range c.Trunk {
		if v == 0 || v > maxVLAN || v == c.VLAN {
			return fmt.Errorf("link: VLAN %d of a trunk is the port's own or not between 1 and %d: %w", v, maxVLAN, syscall.EINVAL)
		}
	}
	for _, a := range c.Pinned {
		if a.IsMulticast() || a.IsZero() {
			return fmt.Errorf("link: %v is not the address of a station: %w", a, syscall.EINVAL)
		}
	}
	return nil
}

// vlanSet has a bit for each VLAN.
type vlanSet [(vlanID + 1) / 64]uint64

func (s *vlanSet) add(v uint16)      { s[v/64] |= 1 << (v % 64) }
func (s *vlanSet) has(v uint16) bool { return s[v/64]&(1<<(v%64)) != 0 }

// plain says that the port knows of no VLANs: tags pass it as they are.
func (p *Port) plain() bool { return p.config.VLAN == 0 && len(p.config.Trunk) == 0 }

// carries says that frames of the VLAN leave by the port.
func (p *Port) carries(vlan uint16) bool { return vlan == p.config.VLAN || p.trunk.has(vlan) }

// vlans are the VLANs of the port.
func (p *Port) vlans() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		if !yield(p.config.VLAN) {
			return
		}
		for _, v := range p.config.Trunk {
			if !yield(v) {
				return
			}
		}
	}
}

// tag is the tag of a frame that has come to a port, or noTag; on a plain port it is part of the payload.
func (p *Port) tag(frame []byte) int {
	if p.plain() || len(frame) < ethernet.HeaderLen+ethernet.TagLen ||
		ethernet.EtherType(binary.BigEndian.Uint16(frame[12:])) != ethernet.TypeVLAN {
		return noTag
	}
	return int(binary.BigEndian.Uint16(frame[14:]))
}

// vlanOf is the VLAN that a frame which has come to the port belongs to; false: one that the port has nothing to do with.
func (p *Port) vlanOf(frame []byte) (uint16, bool) {
	tag := p.tag(frame)
	if tag == noTag || tag&vlanID == 0 { // the second has only a priority (IEEE 802.1Q §3, priority-tagged frame)
		return p.config.VLAN, true
	}
	v := uint16(tag & vlanID)
	return v, p.trunk.has(v)
}

// A retag says how a frame changes its tag on the way from one port to another.
type retag struct {
	keep bool // it does not
	had  bool // the frame has a tag, which goes
	tag  int  // the new one, or noTag
}

// retagFor says how frame, of VLAN v, goes from port p to another. It is false where it cannot: without a tag it would begin
// with one that a station has put inside, and change the VLAN by that.
func (p *Port) retagFor(frame []byte, v uint16, to *Port) (retag, bool) {
	if p.plain() && to.plain() {
		return retag{keep: true}, true
	}
	had := p.tag(frame)
	want := noTag
	if to.trunk.has(v) {
		want = int(v)
		if had != noTag {
			want |= had &^ vlanID
		}
	}
	r := retag{keep: had == want, had: had != noTag, tag: want}
	inside := 12
	if r.had {
		inside += ethernet.TagLen
	}
	hidden := ethernet.EtherType(binary.BigEndian.Uint16(frame[inside:])) == ethernet.TypeVLAN
	return r, want != noTag || to.plain() || !hidden
}

// apply makes p, in place, the packet with its new tag. The new header is written to head, and the slices of the packet are
// appended to texts, which it returns.
func (r retag) apply(p *Packet, head *[maxFrameHeader]byte, texts [][]byte) [][]byte {
	if r.keep {
		return texts
	}
	skip, n := 12, 12
	if r.had {
		skip += ethernet.TagLen
	}
	copy(head[:], p.Head[:12])
	if r.tag != noTag {
		binary.BigEndian.PutUint16(head[12:], uint16(ethernet.TypeVLAN))
		binary.BigEndian.PutUint16(head[14:], uint16(r.tag))
		n += ethernet.TagLen
	}
	first := len(texts)
	texts = append(append(texts, p.Head[skip:]), p.Text...)
	p.Head, p.Text = head[:n], texts[first:len(texts):len(texts)]
	p.Buffer, p.At = nil, 0
	if o := &p.Offload; o.Partial {
		o.Start += uint16(n - skip)
	}
	if p.Offload.GSO != None {
		p.Offload.HeaderLen += uint16(n - skip)
	}
	return texts
}
