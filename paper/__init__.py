"""What only this paper needs: the run, its comparison, figures, tables, claims and report."""
