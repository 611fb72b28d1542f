#!/usr/bin/env python
from gallery.manage import main

if __name__ == "__main__":
    main()
