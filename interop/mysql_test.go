package interop

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/server"
	"github.com/go-sql-driver/mysql"

	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// parcels is the only table of a very small SQL server, which understands three statements.
type parcels struct {
	server.EmptyHandler
	mu     sync.Mutex
	bodies []any
}

var insertStatement = regexp.MustCompile(`^insert into parcels values \('(.*)'\)$`)

func (p *parcels) UseDB(name string) error {
	if name != "waybill" {
		return gomysql.NewDefaultError(gomysql.ER_BAD_DB_ERROR, name)
	}
	return nil
}

func (p *parcels) HandleQuery(query string) (*gomysql.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := insertStatement.FindStringSubmatch(query); m != nil {
		p.bodies = append(p.bodies, strings.Clone(m[1]))
		return &gomysql.Result{AffectedRows: 1}, nil
	}
	var rows [][]any
	switch query {
	case "select count(*) from parcels":
		rows = [][]any{{len(p.bodies)}}
	case "select body from parcels":
		for _, b := range p.bodies {
			rows = append(rows, []any{b})
		}
	default:
		return nil, gomysql.NewDefaultError(gomysql.ER_PARSE_ERROR, "not of this small server", query, 1)
	}
	set, err := gomysql.BuildSimpleTextResultset([]string{"body"}, rows)
	return gomysql.NewResult(set), err
}

// serveParcels answers MySQL clients until the listener is closed.
func serveParcels(l net.Listener, p *parcels, cert tls.Certificate) {
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	s := server.NewServer("8.0.12", gomysql.DEFAULT_COLLATION_ID, gomysql.AUTH_NATIVE_PASSWORD, nil, config)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			c, err := s.NewConn(conn, "clerk", "stamp", p)
			for err == nil && !c.Closed() {
				err = c.HandleCommand()
			}
		}()
	}
}

// TestMySQLRealClient: the mariadb client inserts 1,000 rows and one of 1 MB, and reads them back, in the clear and by
// TLS, from a server on go-mysql-org/go-mysql.
func TestMySQLRealClient(t *testing.T) {
	s := enter(t, "mariadb")
	if s == nil {
		return
	}
	id := newIdentity(t)
	for _, f := range families {
		for _, security := range [][]string{{"--skip-ssl"}, {"--ssl", "--ssl-ca=" + id.certFile, "--ssl-verify-server-cert"}} {
			t.Run(f.name+security[0], func(t *testing.T) {
				l := listen(t, s, "3306")
				var table parcels
				go serveParcels(l, &table, id.Certificate)
				client := append([]string{"mariadb", "--no-defaults", "-h", f.ours, "-P", "3306", "-u", "clerk", "-pstamp",
					"--batch", "--raw", "--skip-column-names", "--max-allowed-packet=64M", "-D", "waybill"}, security...)
				var script, want strings.Builder
				for i := range 1000 {
					fmt.Fprintf(&script, "insert into parcels values ('parcel %d');\n", i)
					fmt.Fprintf(&want, "parcel %d\n", i)
				}
				heavy, _ := octets(1<<19, 33)
				fmt.Fprintf(&script, "insert into parcels values ('%x');\nselect body from parcels;\nselect count(*) from parcels;\n", heavy)
				fmt.Fprintf(&want, "%x\n1001\n", heavy)
				out, stderr, err := try(t, strings.NewReader(script.String()), client...)
				if err != nil || digest([]byte(out)) != digest([]byte(want.String())) {
					t.Errorf("%d octets, %v, want %d others\n%s", len(out), err, want.Len(), stderr)
				}
				// An error of the server's, and a wrong password, are told as such.
				for want, more := range map[string]string{"ERROR 1064": "-e drop", "ERROR 1045": "-pwrong", "ERROR 1049": "-Dnowhere"} {
					if _, stderr, err := try(t, nil, append(client, strings.Fields(more)...)...); err == nil || !strings.Contains(stderr, want) {
						t.Errorf("%s: %v, %q, want %s", more, err, stderr, want)
					}
				}
				l.Close()
			})
		}
	}
}

// startMariaDB starts a MariaDB with a new, empty data directory, at both addresses of the kernel's.
func startMariaDB(t *testing.T, id identity) {
	t.Helper()
	dir := t.TempDir()
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "socket")
	tool(t, "mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	daemon(t, "mariadbd", "--no-defaults", "--user=root", "--datadir="+data, "--socket="+socket, "--pid-file="+filepath.Join(dir, "pid"),
		"--bind-address="+families[0].theirs+","+families[1].theirs, "--port=3306", "--skip-name-resolve", "--wait-timeout=60",
		"--ssl-cert="+id.certFile, "--ssl-key="+id.keyFile, "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M",
		"--innodb-log-file-size=8M", "--skip-log-bin")
	awaitPort(t, families[0].theirs+":3306")
	tool(t, "mariadb", "--no-defaults", "-u", "root", "--socket="+socket, "-e",
		"create database waybill; create user clerk identified by 'stamp'; grant all on waybill.* to clerk;")
}

// TestMySQLRealServer: go-sql-driver/mysql dials MariaDB over waybill.
func TestMySQLRealServer(t *testing.T) {
	s := enter(t, "mariadb", "mariadbd", "mariadb-install-db")
	if s == nil {
		return
	}
	id := newIdentity(t)
	startMariaDB(t, id)
	mysql.SetLogger(log.New(io.Discard, "", 0))
	mysql.RegisterDialContext("waybill", func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := s.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return checkedConn{conn.(*stack.TCPConn)}, nil
	})
	for _, f := range families {
		if err := mysql.RegisterTLSConfig(f.name, &tls.Config{RootCAs: id.pool, ServerName: f.theirs}); err != nil {
			t.Fatal(err)
		}
		for _, security := range []string{"false", f.name} {
			t.Run(f.name+"/tls="+security, func(t *testing.T) {
				db, err := sql.Open("mysql", fmt.Sprintf("clerk:stamp@waybill(%s)/waybill?tls=%s", net.JoinHostPort(f.theirs, "3306"), security))
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				killed(t, s, db)
				db.SetMaxOpenConns(8)
				db.SetMaxIdleConns(8)
				if security == "false" {
					insertAll(t, s, db, 10_000)
				} else {
					var name, cipher string
					err := db.QueryRow("show session status like 'ssl_cipher'").Scan(&name, &cipher)
					if err != nil || cipher == "" {
						t.Errorf("TLS with cipher %q, %v", cipher, err)
					}
					insertAll(t, s, db, 500)
				}
			})
		}
	}
}

// insertAll inserts n rows by a pool of connections and reads them back, and a row of 8 MB.
func insertAll(t *testing.T, s *stack.Stack, db *sql.DB, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(ctx, query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("drop table if exists parcels")
	exec("create table parcels (id int primary key, body longblob not null) engine=innodb")
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := db.ExecContext(ctx, "insert into parcels values (?, ?)", i, fmt.Sprintf("parcel %d", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	if got := db.Stats().OpenConnections; got < 2 || got > 8 {
		t.Errorf("%d connections in the pool, want 2 to 8", got)
	}
	got, want := sha256.New(), sha256.New()
	rows, err := db.QueryContext(ctx, "select id, body from parcels order by id")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for rows.Next() {
		var id int
		var body string
		if err := rows.Scan(&id, &body); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(got, "%d %s\n", id, body)
		fmt.Fprintf(want, "%d parcel %d\n", count, count)
		count++
	}
	if rows.Err() != nil || count != n || hex.EncodeToString(got.Sum(nil)) != hex.EncodeToString(want.Sum(nil)) {
		t.Errorf("%d rows, %v, want the %d that were inserted", count, rows.Err(), n)
	}
	heavy, sum := octets(8<<20, 8)
	exec("insert into parcels values (?, ?)", n, heavy)
	var body []byte
	if err := db.QueryRowContext(ctx, "select body from parcels where id = ?", n).Scan(&body); err != nil || digest(body) != sum {
		t.Errorf("a row of 8 MB: %d octets, %v, want the %d that were inserted", len(body), err, len(heavy))
	}
	endQuery(t, s, db)
}

// endQuery ends a query by its context, and sees the pool work on.
func endQuery(t *testing.T, s *stack.Stack, db *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, "select sleep(60)"); err == nil || ctx.Err() == nil {
		t.Errorf("a query whose context ends: %v, want an error", err)
	}
	var one int
	if err := db.QueryRowContext(t.Context(), "select 1").Scan(&one); err != nil || one != 1 {
		t.Errorf("the next query: %d, %v", one, err)
	}
	db.Close()
	for c := range s.Conns() {
		if c.State.String() == "ESTABLISHED" {
			t.Errorf("after Close of the pool there is %v", c)
		}
	}
}

// A checkedConn can tell the driver that the server has closed it while it was idle in the pool. The driver insists on
// a kernel's socket for that: it reads from the file descriptor that SyscallConn gives, and checks nothing where there is none.
// An error of SyscallConn serves as well.
type checkedConn struct{ *stack.TCPConn }

func (c checkedConn) SyscallConn() (syscall.RawConn, error) {
	if c.Info().State != tcp.Established {
		return nil, io.EOF
	}
	return noRawConn{}, nil
}

// noRawConn has no file descriptor, so nothing is done with it.
type noRawConn struct{}

func (noRawConn) Control(func(fd uintptr)) error    { return nil }
func (noRawConn) Read(func(fd uintptr) bool) error  { return nil }
func (noRawConn) Write(func(fd uintptr) bool) error { return nil }

// killed lets the server close an idle connection of the pool: the next query goes over a new one.
func killed(t *testing.T, s *stack.Stack, db *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	id := func() (n int) {
		t.Helper()
		if err := db.QueryRowContext(ctx, "select connection_id()").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	first, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second := id()
	if _, err := first.ExecContext(ctx, fmt.Sprintf("kill %d", second)); err != nil {
		t.Fatal(err)
	}
	for closing := false; !closing; time.Sleep(time.Millisecond) {
		for c := range s.Conns() {
			closing = closing || c.State == tcp.CloseWait
		}
		if ctx.Err() != nil {
			t.Fatal("the server does not close the connection that was killed")
		}
	}
	if third := id(); third == second {
		t.Errorf("connection %d lives on", second)
	}
	first.Close()
}
