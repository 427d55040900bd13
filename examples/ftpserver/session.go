package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"github.com/seed87e66d9f/waybill/stack"
)

// session is one client's control connection.
type session struct {
	ctx      context.Context
	host     *host.Host
	root     *os.Root
	write    bool // the client may
	control  net.Conn
	dir      string             // where the client is, from "/", the root
	listener *stack.TCPListener // for the next data connection, or nil
	active   uint16             // the client's port to connect to, or 0
	offset   int64              // where the next transfer begins
}

// run answers commands one by one. One that comes during a transfer is read after it, so there is no ABOR.
func (s *session) run() {
	defer s.forget()
	err := s.reply("220 a waybill goes with every parcel")
	for lines := bufio.NewScanner(s.control); err == nil; { // lines of up to 64 KB
		s.control.SetDeadline(time.Now().Add(5 * time.Minute)) // to think
		if s.ctx.Err() != nil || !lines.Scan() {
			s.reply("421 closing")
			return
		}
		verb, arg, _ := strings.Cut(lines.Text(), " ")
		if verb = strings.ToUpper(verb); verb == "QUIT" {
			s.reply("221 bye")
			return
		}
		err = s.reply(s.answer(verb, arg))
	}
}

func (s *session) reply(text string) error {
	_, err := io.WriteString(s.control, text+"\r\n")
	return err
}

// answer does what a command asks, and returns the reply.
func (s *session) answer(verb, arg string) string {
	switch verb {
	case "USER", "PASS":
		return "230 welcome"
	case "SYST":
		return "215 UNIX Type: L8"
	case "FEAT":
		return "211-also\r\n EPSV\r\n EPRT\r\n REST STREAM\r\n SIZE\r\n MDTM\r\n UTF8\r\n211 that is all"
	case "NOOP", "OPTS", "TYPE", "MODE", "STRU": // octets are sent as they are, with TYPE A as well
		return "200 so be it"
	case "PWD":
		return fmt.Sprintf(`257 "%s"`, strings.ReplaceAll(s.dir, `"`, `""`))
	case "PASV":
		a := addr(s.control.LocalAddr())
		if s.host.Client != nil { // in memory: this machine forwards the same ports
			a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		if port := s.passive(); port != 0 && a.Is4() {
			return fmt.Sprintf("227 I listen (%s,%d,%d)", strings.ReplaceAll(a.String(), ".", ","), port>>8, port&0xff)
		}
		return "425 no port"
	case "EPSV": // RFC 2428 §3: for any family
		if port := s.passive(); port != 0 {
			return fmt.Sprintf("229 I listen (|||%d|)", port)
		}
		return "425 no port"
	case "PORT", "EPRT":
		return s.port(verb, arg)
	case "REST":
		from, err := strconv.ParseUint(arg, 10, 63)
		if s.offset = int64(from); err != nil {
			return "501 that is no offset"
		}
		return "350 from there"
	case "LIST", "NLST":
		if strings.HasPrefix(arg, "-") { // ls's flags
			_, arg, _ = strings.Cut(arg, " ")
		}
	}
	if !path.IsAbs(arg) {
		arg = path.Join(s.dir, arg)
	}
	answer, err := s.files(verb, path.Clean(arg))
	if err != nil {
		return fmt.Sprintf("550 %v", err)
	}
	return answer
}

// files answers the commands about the file, or directory, of a name.
func (s *session) files(verb, name string) (string, error) {
	file := cmp.Or(name[1:], ".") // from the root
	info, err := s.root.Stat(file)
	switch verb {
	case "SIZE", "MDTM", "DELE", "RETR", "CWD":
		if err == nil && info.IsDir() != (verb == "CWD") {
			err = fs.ErrInvalid
		}
	case "STOR":
		err = nil // made if need be
	case "LIST", "NLST":
	default:
		return "502 not here", nil
	}
	if (verb == "STOR" || verb == "DELE") && !s.write {
		err = fs.ErrPermission
	}
	if err != nil {
		return "", err
	}
	switch verb {
	case "CWD":
		s.dir = name
		return "250 so be it", nil
	case "SIZE":
		return fmt.Sprint("213 ", info.Size()), nil
	case "MDTM":
		return "213 " + info.ModTime().UTC().Format("20060102150405"), nil
	case "DELE":
		return "250 gone", s.root.Remove(file)
	case "LIST", "NLST":
		return s.list(verb, file)
	}
	flags := os.O_RDONLY
	if verb == "STOR" {
		if flags = os.O_WRONLY | os.O_CREATE; s.offset == 0 {
			flags |= os.O_TRUNC
		}
	}
	f, err := s.root.OpenFile(file, flags, 0o666)
	if err != nil {
		return "", err
	}
	defer f.Close()
	f.Seek(s.offset, io.SeekStart)
	s.offset = 0
	return s.transfer(func(c net.Conn) error {
		if verb == "STOR" {
			_, err := io.Copy(f, c)
			return err
		}
		_, err := io.Copy(c, f)
		return err
	}), nil
}

// list sends what is in a directory: names, or with LIST lines as ls prints them, which every client reads.
func (s *session) list(verb, dir string) (string, error) {
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := s.root.Stat(path.Join(dir, e.Name()))
		switch {
		case err != nil || strings.ContainsAny(e.Name(), "\r\n"): // a link that leads outside, a name that is no line
		case verb == "NLST":
			fmt.Fprintf(&b, "%s\r\n", e.Name())
		default:
			layout := "Jan _2 15:04"
			if time.Since(info.ModTime()).Abs() > 180*24*time.Hour {
				layout = "Jan _2  2006"
			}
			fmt.Fprintf(&b, "%v 1 ftp ftp %d %s %s\r\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(layout), e.Name())
		}
	}
	return s.transfer(func(c net.Conn) error {
		_, err := io.WriteString(c, b.String())
		return err
	}), nil
}
