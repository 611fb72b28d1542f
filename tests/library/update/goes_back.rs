//! An update that fails in its window leaves the site as it was.
