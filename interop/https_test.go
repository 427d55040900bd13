package interop

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
)

// tlsVersions are the ones in use, each as crypto/tls, curl and openssl s_client call it.
var tlsVersions = []struct {
	version       uint16
	name          string
	curl, openssl []string
}{
	{tls.VersionTLS12, "TLS 1.2", []string{"--tlsv1.2", "--tls-max", "1.2"}, []string{"-tls1_2"}},
	{tls.VersionTLS13, "TLS 1.3", []string{"--tlsv1.3"}, []string{"-tls1_3"}},
}

func TestHTTPSRealClientCurl(t *testing.T) {
	s := enter(t, "curl")
	if s == nil {
		return
	}
	id := newIdentity(t)
	serve(t, listen(t, s, "443"), site(), &tls.Config{Certificates: []tls.Certificate{id.Certificate}})
	upload := file(t, "upload", blob)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for _, v := range tlsVersions {
				for _, http := range []struct{ flag, proto string }{{"--http1.1", "HTTP/1.1"}, {"--http2", "HTTP/2.0"}} {
					curl := append([]string{"curl", "-gsS", "--fail", "--cacert", id.certFile, http.flag}, v.curl...)
					if got := digest([]byte(tool(t, append(curl, at("https", f.ours, "443", "/chunked"))...))); got != blobSum {
						t.Errorf("%s, %s: SHA-256 %s, want %s", v.name, http.proto, got, blobSum)
					}
					got := tool(t, append(curl, "--data-binary", "@"+upload, at("https", f.ours, "443", "/sum"))...)
					if want := blobSum + " " + http.proto + " []"; got != want {
						t.Errorf("%s, %s: upload: %q, want %q", v.name, http.proto, got, want)
					}
					got = tool(t, append(curl, at("https", f.ours, "443", "/resumed"))...)
					if want := v.name + " resumed: false\n"; got != want {
						t.Errorf("%s, %s: %q, want %q", v.name, http.proto, got, want)
					}
				}
			}
			// curl trusts the system's authorities and not ours: the refusal is its own, and reaches the server as an alert.
			if _, said, err := try(t, nil, "curl", "-gsS", at("https", f.ours, "443", "/small")); err == nil || !strings.Contains(said, "self-signed") {
				t.Errorf("without --cacert: %v, %q; want a refusal of the certificate", err, said)
			}
		})
	}
}

func TestHTTPSRealClientOpenSSL(t *testing.T) {
	s := enter(t, "openssl")
	if s == nil {
		return
	}
	id := newIdentity(t)
	serve(t, listen(t, s, "443"), site(), &tls.Config{Certificates: []tls.Certificate{id.Certificate}})
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for _, v := range tlsVersions {
				client := append([]string{"openssl", "s_client", "-connect", net.JoinHostPort(f.ours, "443"), "-CAfile", id.certFile,
					"-verify_return_error", "-verify_ip", f.ours, "-ign_eof"}, v.openssl...)
				ask := func(args ...string) string {
					t.Helper()
					in := strings.NewReader("GET /resumed HTTP/1.1\r\nHost: waybill\r\nConnection: close\r\n\r\n")
					out, said, err := try(t, in, append(client, args...)...)
					if err != nil {
						t.Fatalf("%s %v: %v\n%s%s", v.name, args, err, out, said)
					}
					return out
				}
				session := file(t, "session", nil)
				first := ask("-sess_out", session)
				if want := v.name + " resumed: false"; !strings.Contains(first, want) || !strings.Contains(first, "Verify return code: 0 (ok)") {
					t.Errorf("%s: want %q and a verified certificate in\n%s", v.name, want, first)
				}
				second := ask("-sess_in", session)
				if want := v.name + " resumed: true"; !strings.Contains(second, want) || !strings.Contains(second, "\nReused, ") {
					t.Errorf("%s: want %q and Reused in\n%s", v.name, want, second)
				}
			}
			// The same session five times more, each over a connection of its own; in TLS 1.3 it comes only behind the handshake.
			again, said, err := try(t, strings.NewReader("Q\n"), "openssl", "s_client", "-connect", net.JoinHostPort(f.ours, "443"), "-CAfile", id.certFile, "-tls1_2", "-reconnect")
			if n := strings.Count(again, "\nReused, TLSv1.2"); err != nil || n != 5 {
				t.Errorf("-reconnect: %v, %d sessions resumed, want 5\n%s%s", err, n, again, said)
			}
		})
	}
}

func TestHTTPSRealServerNginx(t *testing.T) {
	s := enter(t, "nginx")
	if s == nil {
		return
	}
	id := newIdentity(t)
	nginx(t, `
		ssl_certificate `+id.certFile+`;
		ssl_certificate_key `+id.keyFile+`;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_session_cache shared:tls:1m;
		server {
			LISTEN 443 ssl http2;
			dav_methods PUT;
			add_header Resumed $ssl_session_reused always;
			add_header Protocol "$ssl_protocol $server_protocol" always;
		}`, "443")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for _, v := range tlsVersions {
				for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
					c := &tls.Config{RootCAs: id.pool, MinVersion: v.version, MaxVersion: v.version, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
					transport := &http.Transport{DialContext: s.DialContext, TLSClientConfig: c, Protocols: new(http.Protocols)}
					transport.Protocols.SetHTTP1(proto == "HTTP/1.1")
					transport.Protocols.SetHTTP2(proto == "HTTP/2.0")
					url := at("https", f.theirs, "443", "/blob.bin")
					for _, resumed := range []bool{false, true} {
						answer, body, _ := do(t, transport, request(t, "GET", url, nil), http.StatusOK)
						if digest(body) != blobSum || answer.Proto != proto || answer.TLS.Version != v.version {
							t.Errorf("%s, %s: %d octets over %s and %s; want the blob", v.name, proto, len(body), answer.Proto, tls.VersionName(answer.TLS.Version))
						}
						mark := map[bool]string{false: ".", true: "r"}[resumed] // nginx's
						if got := answer.Header.Get("Resumed"); answer.TLS.DidResume != resumed || got != mark {
							t.Errorf("%s, %s: resumed: %v, and nginx says %q; want %v and %q", v.name, proto, answer.TLS.DidResume, got, resumed, mark)
						}
						transport.CloseIdleConnections() // the second request is to make a connection
					}
					put := at("https", f.theirs, "443", "/"+f.name+tls.VersionName(v.version)[4:]+proto[5:])
					if answer, _, _ := do(t, transport, request(t, "PUT", put, bytes.NewReader(blob)), http.StatusCreated); answer.Proto != proto {
						t.Errorf("PUT over %s, want %s", answer.Proto, proto)
					}
					if _, back, _ := do(t, transport, request(t, "GET", put, nil), http.StatusOK); digest(back) != blobSum {
						t.Errorf("%s, %s: %d octets came back, which are not the blob", v.name, proto, len(back))
					}
					transport.CloseIdleConnections()
				}
			}
		})
	}
}
