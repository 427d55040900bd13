module github.com/seed87e66d9f/waybill/bench

go 1.26.3

require (
	github.com/seed87e66d9f/waybill v0.0.0
	golang.org/x/sys v0.46.0
	gvisor.dev/gvisor v0.0.0-20260905035102-160fafc42237
)

require (
	github.com/google/btree v1.1.2 // indirect
	github.com/songgao/water v0.0.0-20200317203138-2b4b6d7c09d8 // indirect
	golang.org/x/exp v0.0.0-20250711185948-6ae5c78190dc // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace github.com/seed87e66d9f/waybill => ../
