package main

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/seed87e66d9f/waybill/bench/internal/tuntap"
)

// vnet is a link endpoint of netstack over a TUN device with the virtio header.
type vnet struct {
	fd   int
	read func([]byte) (int, error)
	up   stack.NetworkDispatcher
}

// maxGSO is the largest super-segment: an IP packet of 65,535 octets, less the longest TCP header, which netstack's
// GSOMaxSize leaves out.
const maxGSO = 1<<16 - 1 - header.TCPHeaderMaximumSize

// The fields of struct virtio_net_hdr (Virtual I/O Device specification 1.2, §5.1.6).
const (
	virtioNeedsCsum = 1
	virtioTCP4      = 1
	virtioTCP6      = 4
)

func newVnet(fd int, poll bool) (*vnet, error) {
	read, err := tuntap.Reader(fd, poll)
	return &vnet{fd: fd, read: read}, err
}

// Attach begins to read.
func (e *vnet) Attach(up stack.NetworkDispatcher) {
	if up != nil {
		e.up = up
		go e.loop()
	}
}

// loop hands over what arrives. The kernel is on this same machine, so the checksums need no look.
func (e *vnet) loop() {
	b := make([]byte, tuntap.HeaderLen+1<<16)
	for {
		n, err := e.read(b)
		if err != nil {
			fmt.Fprintln(os.Stderr, "read:", err)
			return
		}
		if n <= tuntap.HeaderLen {
			continue
		}
		proto := header.IPv4ProtocolNumber
		if b[tuntap.HeaderLen]>>4 == header.IPv6Version {
			proto = header.IPv6ProtocolNumber
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{
			Payload: buffer.MakeWithView(buffer.NewViewWithData(b[tuntap.HeaderLen:n])), // a copy
		})
		p.RXChecksumValidated = true
		e.up.DeliverNetworkPacket(proto, p)
		p.DecRef()
	}
}

// WritePackets writes each packet with one system call.
func (e *vnet) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	var h [tuntap.HeaderLen]byte
	var pieces [][]byte
	for n, p := range list.AsSlice() {
		h = virtioHeader(p)
		pieces = append(append(pieces[:0], h[:]), p.AsSlices()...)
		if _, err := unix.Writev(e.fd, pieces); err != nil {
			fmt.Fprintln(os.Stderr, "write:", err)
			return n, &tcpip.ErrAborted{}
		}
	}
	return list.Len(), nil
}

// virtioHeader says what netstack has left for the kernel to do.
func virtioHeader(p *stack.PacketBuffer) (h [tuntap.HeaderLen]byte) {
	g := &p.GSOOptions
	if g.Type == stack.GSONone || !g.NeedsCsum {
		return h
	}
	h[0] = virtioNeedsCsum
	binary.NativeEndian.PutUint16(h[6:], g.L3HdrLen)
	binary.NativeEndian.PutUint16(h[8:], g.CsumOffset)
	if p.Data().Size() > int(g.MSS) {
		h[1] = virtioTCP4
		if g.Type == stack.GSOTCPv6 {
			h[1] = virtioTCP6
		}
		binary.NativeEndian.PutUint16(h[2:], g.L3HdrLen+uint16(len(p.TransportHeader().Slice())))
		binary.NativeEndian.PutUint16(h[4:], g.MSS)
	}
	return h
}

// What follows says the little that there is to say of a link without addresses.

func (e *vnet) MTU() uint32                             { return mtu }
func (e *vnet) SetMTU(uint32)                           {}
func (e *vnet) MaxHeaderLength() uint16                 { return 0 }
func (e *vnet) LinkAddress() tcpip.LinkAddress          { return "" }
func (e *vnet) SetLinkAddress(tcpip.LinkAddress)        {}
func (e *vnet) IsAttached() bool                        { return e.up != nil }
func (e *vnet) Wait()                                   {}
func (e *vnet) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (e *vnet) AddHeader(*stack.PacketBuffer)           {}
func (e *vnet) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (e *vnet) Close()                                  {}
func (e *vnet) SetOnCloseAction(func())                 {}
func (e *vnet) GSOMaxSize() uint32                      { return maxGSO }
func (e *vnet) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (e *vnet) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}
