"""One public function for each command of the command line; the package `segc` exports them."""
