package check

import "fmt"

// counted: nothing is reported as missed while mailboxes are not full, and never more than there was.
func counted(d *digest, o Options) []Violation {
	var list []Violation
	for _, c := range d.connOrder {
		got := map[string]bool{}
		for _, i := range c.deliveries {
			e := d.h[i]
			got[e.MsgID] = true
			if e.Missed == 0 {
				continue
			}
			possible := 0
			for _, m := range d.order {
				if _, maybe := d.recipient(m, c.user, i); maybe && m.first() < i && !got[m.msgID] {
					possible++
				}
			}
			if o.Cap == 0 || e.Missed < 0 || e.Missed > possible {
				list = append(list, d.violation(Miscounted, fmt.Sprintf("%d are said to be missed, %d can be", e.Missed, possible), i))
			}
		}
	}
	return list
}
