"""What solvers share: steps in time, fluxes, spectra, the mechanics of cracks."""
