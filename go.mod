module github.com/seed87e66d9f/waybill

go 1.25.0

require (
	github.com/songgao/water v0.0.0-20200317203138-2b4b6d7c09d8
	golang.org/x/net v0.56.0
	golang.org/x/sys v0.46.0
)
