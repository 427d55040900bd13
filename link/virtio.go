package link

import (
	"encoding/binary"
	"errors"
)

// VirtioLen is the length of struct virtio_net_hdr without the count of merged buffers: what a TUN device puts in
// front of each packet (TUNSETVNETHDRSZ).
const VirtioLen = 10

// ErrOffload says that the bytes are no virtio header that we could act upon: too short, of an unknown kind, or a
// super-segment of packets without payload.
var ErrOffload = errors.New("link: invalid virtio header")

// The values of struct virtio_net_hdr (Virtual I/O Device specification 1.2, §5.1.6).
const (
	virtioNeedsChecksum = 1 // flags: VIRTIO_NET_HDR_F_NEEDS_CSUM
	virtioDataValid     = 2 // flags: VIRTIO_NET_HDR_F_DATA_VALID

	virtioNone = 0    // gso_type: VIRTIO_NET_HDR_GSO_NONE
	virtioTCP4 = 1    // gso_type: VIRTIO_NET_HDR_GSO_TCPV4
	virtioTCP6 = 4    // gso_type: VIRTIO_NET_HDR_GSO_TCPV6
	virtioUDP  = 5    // gso_type: VIRTIO_NET_HDR_GSO_UDP_L4; 3, for UDP cut into IP fragments, is neither sent nor asked for
	virtioECN  = 0x80 // gso_type: VIRTIO_NET_HDR_GSO_ECN, or-ed to the others
)

// Decode reads a virtio header, in the byte order of this machine, as TUN devices have it:
//
//	flags 1 | gso_type 1 | hdr_len 2 | gso_size 2 | csum_start 2 | csum_offset 2
//
// Whether Start and Offset lie within the packet is for the caller to see. The error is ErrOffload.
func (o *Offload) Decode(b []byte) error {
	if len(b) < VirtioLen {
		return ErrOffload
	}
	*o = Offload{
		Partial:   b[0]&virtioNeedsChecksum != 0,
		Valid:     b[0]&(virtioNeedsChecksum|virtioDataValid) != 0,
		ECN:       b[1]&virtioECN != 0,
		HeaderLen: binary.NativeEndian.Uint16(b[2:]),
		Size:      binary.NativeEndian.Uint16(b[4:]),
		Start:     binary.NativeEndian.Uint16(b[6:]),
		Offset:    binary.NativeEndian.Uint16(b[8:]),
	}
	switch b[1] &^ virtioECN {
	case virtioNone:
		o.ECN, o.HeaderLen, o.Size = false, 0, 0
	case virtioTCP4:
		o.GSO = TCP4
	case virtioTCP6:
		o.GSO = TCP6
	case virtioUDP:
		o.GSO = UDP
	default:
		return ErrOffload
	}
	if o.GSO != None && o.Size == 0 {
		return ErrOffload
	}
	if !o.Partial {
		o.Start, o.Offset = 0, 0
	}
	return nil
}

// Encode writes the virtio header to b and returns its length, VirtioLen, or 0 where b is too short.
func (o *Offload) Encode(b []byte) int {
	if len(b) < VirtioLen {
		return 0
	}
	b = b[:VirtioLen]
	clear(b)
	switch {
	case o.Partial:
		b[0] = virtioNeedsChecksum
		binary.NativeEndian.PutUint16(b[6:], o.Start)
		binary.NativeEndian.PutUint16(b[8:], o.Offset)
	case o.Valid:
		b[0] = virtioDataValid
	}
	switch o.GSO {
	case None:
		return VirtioLen
	case TCP4:
		b[1] = virtioTCP4
	case TCP6:
		b[1] = virtioTCP6
	case UDP:
		b[1] = virtioUDP
	}
	if o.ECN {
		b[1] |= virtioECN
	}
	binary.NativeEndian.PutUint16(b[2:], o.HeaderLen)
	binary.NativeEndian.PutUint16(b[4:], o.Size)
	return VirtioLen
}

// fits reports whether the checksum that is to be completed lies within a packet of n bytes.
func (o *Offload) fits(n int) bool {
	return !o.Partial || int(o.Start)+int(o.Offset)+2 <= n
}
