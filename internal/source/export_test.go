package source

// What tests have to know of the gate.
const (
	Admitted    = admitted
	AdmitWithin = admitWithin
)
