package tcp

import "testing"

// TestC116EchoForEver: a peer that sets ECE on all it sends, whatever CWR says, slows the connection down and does not stop it;
// after maxMarks windows it is no longer believed.
func TestC116EchoForEver(t *testing.T) {
	for _, sack := range []bool{false, true} {
		c := plain()
		c.ECN, c.NoSACK = ECNActive, !sack
		s := &script{t: t, TCB: Open(0, 100, &c)}
		s.want("<SEQ=100><CTL=SYN,ECE,CWR>")
		s.now = 100 * ms
		s.Arrive(s.now, &Segment{Seq: 300, Ack: 101, Flags: SYN | ACK | ECE, Window: 65535, Options: Options{MSS: 1460, SACKPermitted: sack}})
		s.want("<SEQ=101><ACK=301><CTL=ACK>")
		left, least, ect, cwr := 400*1460, 1<<30, 0, 0
		for round := 0; left > 0 || s.snd.una != s.snd.nxt; round++ {
			if round > 400 {
				t.Fatalf("SACK %v: %d octets are left after 400 round trips: %+v", sack, left, s.Info())
			}
			left -= s.write(min(left, 65000))
			for _, g := range s.take() {
				if g.ECN == ECT0 {
					ect++
				}
				if g.Flags.Has(CWR) {
					cwr++
				}
			}
			s.now += 100 * ms
			s.arrive(Segment{Seq: 301, Ack: s.snd.nxt, Flags: ACK | ECE, Window: 65535})
			least = min(least, s.Info().Cwnd)
		}
		if least < 2*1460 {
			t.Errorf("SACK %v: the window went down to %d octets, want two packets", sack, least)
		}
		if cwr != maxMarks-1 || s.ecn&ecnSends != 0 {
			t.Errorf("SACK %v: CWR came %d times, %d packets were ECT; want %d times, and the end of ECT", sack, cwr, ect, maxMarks-1)
		}
		if s.Info().Cwnd <= 4*1460 {
			t.Errorf("SACK %v: the window is %d octets in the end, want it to have grown again", sack, s.Info().Cwnd)
		}
	}
}

// TestC116MarkAndLoss: a mark and a loss in one window are one reason, whichever comes first, and CWR goes once.
func TestC116MarkAndLoss(t *testing.T) {
	for _, markFirst := range []bool{true, false} {
		c := full()
		c.ECN, c.NoTimestamps, c.Congestion = ECNActive, true, NewCubic
		s := &script{t: t, TCB: Open(0, 100, &c)}
		s.take()
		s.now = 100 * ms
		s.Arrive(s.now, &Segment{Seq: 300, Ack: 101, Flags: SYN | ACK | ECE, Window: 65535, Options: Options{MSS: 1460, SACKPermitted: true}})
		s.take()
		s.write(10 * 1460)
		s.take()
		s.now += 100 * ms
		mark := func(ack Seq, o Options) {
			s.arrive(Segment{Seq: 301, Ack: ack, Flags: ACK | ECE, Window: 65535, Options: o})
		}
		lost := Options{Blocks: 1, SACK: [4]Block{{101 + 2*1460, 101 + 6*1460}}}
		if markFirst {
			mark(101+1460, Options{})
			mark(101+1460, lost)
		} else {
			s.arrive(Segment{Seq: 301, Ack: 101 + 1460, Flags: ACK, Window: 65535, Options: lost})
			mark(101+1460, lost)
		}
		if got := s.Info().Ssthresh; got < 6*1460 || got > 7*1460 {
			t.Errorf("mark first %v: the threshold is %d octets, want 0.7 of nine or ten packets", markFirst, got)
		}
		if !s.Info().Recovering {
			t.Errorf("mark first %v: the loss is not being repaired", markFirst)
		}
		cwr := 0
		for range 10 {
			s.now += 100 * ms
			s.ack(s.snd.nxt)
			s.write(3 * 1460)
			for _, g := range s.take() {
				if g.Flags.Has(CWR) {
					cwr++
				}
			}
		}
		if cwr != 1 {
			t.Errorf("mark first %v: CWR came %d times, want once", markFirst, cwr)
		}
	}
}

// TestC119AccECN: a SYN that offers AccECN (RFC 9768 §3.1.1: AE, CWR and ECE) gets the answer of RFC 3168, in which AE is clear.
func TestC119AccECN(t *testing.T) {
	b := make([]byte, MaxHeaderLen)
	syn := Segment{Seq: 300, Flags: SYN | ECE | CWR, Window: 65535, Options: Options{MSS: 1460}}
	n := syn.Encode(b, Ports{1, 2})
	b[12] |= 1 // AE, the bit in front of CWR
	var s Segment
	if _, err := s.Decode(b[:n]); err != nil {
		t.Fatal(err)
	}
	reply, _, _ := testListener(8).Arrive(0, testFlow(1), &s, listenConfig)
	if reply.Flags != SYN|ACK|ECE {
		t.Fatalf("the answer is %v", reply)
	}
	reply.Encode(b, Ports{2, 1})
	if b[12]&0xf != 0 {
		t.Errorf("reserved bits %x are set", b[12]&0xf)
	}
}
