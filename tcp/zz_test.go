package tcp
import ("testing";"time";"fmt")
func TestZZ(t *testing.T){
 d := &dumbbell{rate: 12500000, delay: 50*ms, queue: 1250000, make: NewBBR, start: []time.Duration{0}}
 k:=0
 d.onStep=func(d *dumbbell){ f:=d.flows[0].send; if f.cc==nil {return}; k++; if k>80 {return}
  b:=f.cc.(*bbr); bo:=f.board; if bo==nil {return}
  fmt.Printf("%v %s bw %d pac %d cwnd %d pipe %d round %d rs %+v lim %v departs %v minrtt %v\n", d.now, b.State(), b.bw,b.pacing,b.cwnd,bo.pipe(),b.round,bo.rate.sample,f.snd.limited,f.snd.departs,b.minRTT)
 }
 d.run(1*time.Second)
}
