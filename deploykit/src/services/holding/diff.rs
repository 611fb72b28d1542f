//! A changed file as a unified diff.

use similar::TextDiff;

use super::ChangedFile;

/// Writes the diff of a file.
pub(super) fn of(file: &ChangedFile) -> String {
    let path = file.path.display();
    let old = if file.before.is_some() { format!("a{path}") } else { "/dev/null".to_owned() };
    let diff = TextDiff::from_lines(file.before.as_deref().unwrap_or_default(), &file.after);
    diff.unified_diff().header(&old, &format!("b{path}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(before: Option<&str>, after: &str) -> String {
        of(&ChangedFile { path: "/etc/x".into(), before: before.map(str::to_owned), after: after.to_owned() })
    }

    #[test]
    fn a_changed_line_has_three_lines_around_it() {
        let text = diff(Some("1\n2\n3\n4\n5\n6\n7\n8\n9\n"), "1\n2\n3\n4\nfive\n6\n7\n8\n9\n");
        assert_eq!(text, "--- a/etc/x\n+++ b/etc/x\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
    }

    #[test]
    fn a_new_file_has_no_old_name() {
        assert_eq!(diff(None, "a\nb\n"), "--- /dev/null\n+++ b/etc/x\n@@ -0,0 +1,2 @@\n+a\n+b\n");
    }
}
