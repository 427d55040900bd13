package main

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/stack"
)

// indexHTML is the page: always the same octets, which fetch /conns for what changes.
//
//go:embed page.html
var indexHTML string

// page is the web site: a page at /, and at /conns the connections of the host that serves it.
func page(host *stack.Stack) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "waybill")
		http.ServeContent(w, r, "page.html", time.Time{}, strings.NewReader(indexHTML))
	})
	mux.HandleFunc("GET /conns", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "waybill")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(table(host))
	})
	return mux
}

// connection is a row of the table, as JSON.
type connection struct {
	Network  string        `json:"network"`
	Local    string        `json:"local"`
	Remote   string        `json:"remote"`
	State    string        `json:"state"`
	BytesIn  uint64        `json:"bytes_in"`
	BytesOut uint64        `json:"bytes_out"`
	RTT      time.Duration `json:"rtt_ns"`
	Cwnd     int           `json:"cwnd"`
}

// maxRows is how many connections the table shows: a browser asks for it every second.
const maxRows = 1000

// table lists the host's sockets, as ss(8) would.
func table(host *stack.Stack) any {
	rows, more := []connection{}, 0
	for c := range host.Conns() {
		if len(rows) == maxRows {
			more++
			continue
		}
		row := connection{Network: c.Network, Local: c.Local.String(), Remote: "*", State: c.State.String(),
			BytesIn: c.Info.BytesIn, BytesOut: c.Info.BytesOut, RTT: c.Info.SRTT, Cwnd: c.Info.Cwnd}
		if c.Remote.IsValid() {
			row.Remote = c.Remote.String()
		}
		rows = append(rows, row)
	}
	s := host.Stats()
	return map[string]any{
		"conns": rows, "more": more,
		"segments_in": s.SegmentsIn, "segments_out": s.SegmentsOut, "retransmits": s.Retransmits, "accepted": s.Accepted,
	}
}
