package tcp

import (
	"testing"
	"time"
)

func TestRTT(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name              string
		samples           []time.Duration
		srtt, rttvar, rto time.Duration
	}{
		{"RFC 6298 §2.1: one second before any sample", nil, 0, 0, time.Second},
		{"RFC 6298 §2.2: the first sample", []time.Duration{100 * ms}, 100 * ms, 50 * ms, 300 * ms},
		{"RFC 6298 §2.3: a longer one", []time.Duration{100 * ms, 180 * ms}, 110 * ms, 57500 * time.Microsecond, 340 * ms},
		{"RFC 6298 §2.3: a shorter one", []time.Duration{160 * ms, 80 * ms}, 150 * ms, 80 * ms, 470 * ms},
		{"the least variance", []time.Duration{8 * ms}, 8 * ms, 4 * ms, 208 * ms},
		{"RFC 6298 §2.5: the largest timeout", []time.Duration{time.Minute}, time.Minute, 30 * time.Second, 120 * time.Second},
		{"no delay at all is a sample", []time.Duration{0}, 1, 0, 200*ms + 1},
		{"a clock that ran backwards is no delay", []time.Duration{-5 * ms}, 1, 0, 200*ms + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r rtt
			least := time.Duration(0)
			for i, d := range tt.samples {
				r.sample(d)
				if d = max(d, 1); i == 0 || d < least {
					least = d
				}
			}
			if r.srtt != tt.srtt || r.rttvar != tt.rttvar || r.rto(200*ms) != tt.rto || r.min != least {
				t.Errorf("SRTT %v, RTTVAR %v, RTO %v, min %v; want %v, %v, %v, %v", r.srtt, r.rttvar, r.rto(200*ms), r.min, tt.srtt,
					tt.rttvar, tt.rto, least)
			}
		})
	}
}

// TestRTTConverges: a steady path is estimated as it is, whatever came first.
func TestRTTConverges(t *testing.T) {
	var r rtt
	r.sample(3 * time.Second)
	for range 200 {
		r.sample(20 * time.Millisecond)
	}
	if e := r.srtt - 20*time.Millisecond; e.Abs() > 10*time.Microsecond || r.rttvar > 10*time.Microsecond {
		t.Errorf("SRTT %v, RTTVAR %v after 200 samples of 20ms", r.srtt, r.rttvar)
	}
}
