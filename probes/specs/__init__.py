"""What a study asks for, as frozen values that know no tensor: hashable, storable, and named as spoken aloud."""
