// Package interop holds tests only: real programs speak real protocols with hosts on waybill, in both directions.
package interop
