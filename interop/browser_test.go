package interop

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestHTTPRealClientChromium(t *testing.T)  { browse(t, "http") }
func TestHTTPSRealClientChromium(t *testing.T) { browse(t, "https") }

// pageScripts, pageStyles and pageImages are the resources of the page that a browser loads: fifty.
const (
	pageScripts = 20
	pageStyles  = 10
	pageImages  = 20
)

// pageTemplate loads them, and then has a text and a megabyte sent back over a websocket, and tells the server all that
// it has got.
var pageTemplate = template.Must(template.New("").Parse(`<!doctype html>
<meta charset="utf-8"><title>waybill</title>
<script>const scripts = []</script>
{{range .Styles}}<link rel="stylesheet" href="/style/{{.}}">
{{end}}{{range .Scripts}}<script src="/script/{{.}}"></script>
{{end}}{{range .Images}}<img src="/image/{{.}}">
{{end}}<div id="styled">text</div>
<script>
const report = { ScriptText: [], Widths: [], Styles: [], Socket: "" }
const tell = () => fetch("/report", { method: "POST", body: JSON.stringify(report) })
onload = () => {
	report.ScriptText = scripts
	report.Widths = [...document.images].map(i => i.naturalWidth)
	const style = getComputedStyle(document.querySelector("#styled"))
	for (let i = 0; i < {{.Styles}}; i++) report.Styles.push(style.getPropertyValue("--style" + i).trim())
	const socket = new WebSocket(location.origin.replace("http", "ws") + "/echo")
	socket.binaryType = "arraybuffer"
	const sent = new Uint8Array(1 << 20).map((_, i) => i * 7 + (i >> 9))
	socket.onopen = () => { socket.send("waybill"); socket.send(sent) }
	socket.onmessage = m => {
		if (typeof m.data == "string") { report.Socket = m.data; return }
		const got = new Uint8Array(m.data)
		report.Socket += " " + (got.length == sent.length && got.every((b, i) => b == sent[i]) ? got.length : "differs")
		socket.close(1000)
	}
	socket.onclose = m => { report.Socket += " closed " + m.code; tell() }
}
</script>`))

// browserReport is what the page says at its end.
type browserReport struct {
	ScriptText []string // what the scripts say, in their order
	Widths     []int    // of the images
	Styles     []string // the variable that each style sheet sets
	Socket     string   // what the websocket did
}

// visit is what a server saw of one browser.
type visit struct {
	sync.Mutex
	asked  map[string]int  // by path
	protos map[string]bool // of the requests for those
	conns  map[string]bool // the browser's ends
	report chan browserReport
}

// scriptText is the text in script i of the page: long enough for many segments.
func scriptText(i int) string { return hex.EncodeToString(blob[i*10_000 : (i+1)*10_000]) }

// page serves the page, its resources, and what site serves.
func (v *visit) page() http.Handler {
	mux := site()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		pageTemplate.Execute(w, struct{ Styles, Scripts, Images int }{pageStyles, pageScripts, pageImages})
	})
	resource := func(kind, mime string, write func(w io.Writer, i int)) {
		mux.HandleFunc("GET /"+kind+"/{i}", func(w http.ResponseWriter, r *http.Request) {
			i, err := strconv.Atoi(r.PathValue("i"))
			if err != nil || i < 0 || i >= max(pageScripts, pageStyles, pageImages) {
				http.NotFound(w, r)
				return
			}
			v.Lock()
			v.asked[r.URL.Path]++
			v.protos[r.Proto] = true
			v.conns[r.RemoteAddr] = true
			v.Unlock()
			w.Header().Set("Content-Type", mime)
			write(w, i)
		})
	}
	resource("script", "text/javascript", func(w io.Writer, i int) { fmt.Fprintf(w, "scripts.push(%q)", scriptText(i)) })
	resource("style", "text/css", func(w io.Writer, i int) { fmt.Fprintf(w, "#styled { --style%d: %dpx }", i, i+1) })
	resource("image", "image/png", func(w io.Writer, i int) { png.Encode(w, image.NewGray(image.Rect(0, 0, i+1, 100))) })
	mux.HandleFunc("POST /report", func(w http.ResponseWriter, r *http.Request) {
		var b browserReport
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case v.report <- b:
		default: // said before
		}
	})
	return mux
}

// browse has Chromium load the page.
func browse(t *testing.T, scheme string) {
	s := enter(t, "chromium")
	if s == nil {
		return
	}
	port := map[string]string{"http": "80", "https": "443"}[scheme]
	var config *tls.Config
	if scheme == "https" {
		config = &tls.Config{Certificates: []tls.Certificate{newIdentity(t).Certificate}}
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			v := &visit{asked: map[string]int{}, protos: map[string]bool{}, conns: map[string]bool{}, report: make(chan browserReport, 1)}
			l := listen(t, s, port)
			serve(t, l, v.page(), config)
			home := t.TempDir()
			daemon(t, "env", "HOME="+home, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
				"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
				"--ignore-certificate-errors", "--user-data-dir="+home+"/profile", at(scheme, f.ours, port, "/"))
			select {
			case b := <-v.report:
				v.check(t, scheme, &b)
			case <-time.After(patience):
				v.Lock()
				defer v.Unlock()
				t.Fatalf("the page did not report; it asked for %v", v.asked)
			}
		})
	}
}

// check compares what the browser got and what the server saw with what is to be.
func (v *visit) check(t *testing.T, scheme string, b *browserReport) {
	t.Helper()
	v.Lock()
	defer v.Unlock()
	if n := pageScripts + pageStyles + pageImages; len(v.asked) != n {
		t.Errorf("%d resources were asked for, want %d: %v", len(v.asked), n, v.asked)
	}
	want := browserReport{Socket: "waybill 1048576 closed 1000"}
	for i := range pageScripts {
		want.ScriptText = append(want.ScriptText, scriptText(i))
	}
	for i := range pageImages {
		want.Widths = append(want.Widths, i+1)
	}
	for i := range pageStyles {
		want.Styles = append(want.Styles, fmt.Sprintf("%dpx", i+1))
	}
	got, _ := json.Marshal(b)
	if expected, _ := json.Marshal(want); !bytes.Equal(got, expected) {
		t.Errorf("the page got %.200s…, %v, %v, %q", got, b.Widths, b.Styles, b.Socket)
	}
	// A browser opens six connections to a host of HTTP/1.1 and keeps them, and one of HTTP/2.
	proto, conns := "HTTP/1.1", 6
	if scheme == "https" {
		proto, conns = "HTTP/2.0", 1
	}
	if len(v.protos) != 1 || !v.protos[proto] || len(v.conns) > conns {
		t.Errorf("over %v and the connections %v, want %s over %d at most", v.protos, v.conns, proto, conns)
	}
}
