module github.com/seed87e66d9f/waybill/examples/sshserver

go 1.25.0

replace github.com/seed87e66d9f/waybill => ../../

require (
	github.com/pkg/sftp v1.13.10
	github.com/seed87e66d9f/waybill v0.0.0-00010101000000-000000000000
	golang.org/x/crypto v0.53.0
)

require (
	github.com/kr/fs v0.1.0 // indirect
	github.com/songgao/water v0.0.0-20200317203138-2b4b6d7c09d8 // indirect
	golang.org/x/sys v0.46.0 // indirect
)
