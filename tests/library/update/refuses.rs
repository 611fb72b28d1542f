//! An update that cannot be is refused, and the site never noticed.
