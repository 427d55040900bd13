//go:build !linux

package link

import "io"

func waterReader(f waterFile) io.ReadWriteCloser { return f }
