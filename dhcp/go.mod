module github.com/seed87e66d9f/waybill/dhcp

go 1.25.0

require (
	github.com/insomniacslk/dhcp v0.0.0-20250919081422-f80a1952f48e
	github.com/seed87e66d9f/waybill v0.0.0
)

require (
	github.com/josharian/native v1.1.0 // indirect
	github.com/pierrec/lz4/v4 v4.1.14 // indirect
	github.com/songgao/water v0.0.0-20200317203138-2b4b6d7c09d8 // indirect
	github.com/u-root/uio v0.0.0-20230220225925-ffce2a382923 // indirect
	golang.org/x/sys v0.46.0 // indirect
)

replace github.com/seed87e66d9f/waybill => ../
