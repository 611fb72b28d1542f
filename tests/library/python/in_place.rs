//! Packages that are changed in a virtualenv that stays where it is.

use super::*;
use crate::support::disk::Disk;

/// Installs two packages as those of conda-forge are: one is asked for, and no index has the other.
fn add_packages_of_conda(site: &PythonSite) {
    let requirements = fs::read_to_string(site.checkout.join("requirements.txt")).unwrap();
    site.requirements(&(requirements + "delta\n"));
    for name in ["delta", "epsilon"] {
        let wheel = site.wheel(name, "1.0", &[]);
        site.install_by_hand(&[name]);
        let info = packages(&site.virtualenv).join(format!("{name}-1.0.dist-info"));
        fs::write(info.join("INSTALLER"), "conda\n").unwrap();
        let url =
            format!("{{\"url\": \"file:///home/conda/feedstock_root/{name}/work\", \"dir_info\": {{}}}}");
        fs::write(info.join("direct_url.json"), url).unwrap();
        let record = fs::read_to_string(info.join("RECORD")).unwrap();
        let line = format!("{name}-1.0.dist-info/direct_url.json,sha256=x,1\n");
        fs::write(info.join("RECORD"), record + &line).unwrap();
        let program = site.virtualenv.join("bin").join(name);
        let text = fs::read_to_string(&program).unwrap();
        fs::write(program, text + "# of conda\n").unwrap();
        if name == "epsilon" {
            fs::remove_file(wheel).unwrap();
        }
    }
}

#[test]
fn a_conda_environment_and_a_mount_keep_their_places() {
    for (installer, tool) in tools() {
        let (site, tool) = (outdated(), tool.name());
        let (host, linked) = (site.host(), operation(&site, installer));
        let operation = PipInstall { in_place: true, ..linked.clone() };
        let mount = Disk::with_contents(&site.virtualenv, "1g");
        if mount.is_some() {
            let error = linked.check(&host).unwrap_err();
            assert!(matches!(error, PythonError::DifferentFileSystem { .. }), "{tool}: {error}");
        }
        fs::create_dir(site.virtualenv.join("conda-meta")).unwrap();
        fs::write(site.virtualenv.join("own.sock"), "").unwrap();
        add_packages_of_conda(&site);
        let seen = || ["bin", "lib"].map(|part| tree_hash(&site.virtualenv.join(part)));
        let (original, before) = (look(&site.virtualenv), seen());

        let Check::Change(change) = operation.check(&host).unwrap() else { panic!("{tool}") };
        assert_eq!(change.reason, "3 packages change, in place", "{tool}");
        let Prepared::Upgrade(upgrade) = operation.plan(&host).unwrap() else { panic!("{tool}") };
        if let Some(disk) = &mount {
            disk.resize("100m");
            let error = upgrade.build(&host).unwrap_err();
            assert!(error.to_string().contains(", and 100 MB must stay free, but "), "{tool}: {error}");
            assert!(!upgrade.build.staged.exists(), "{tool}: nothing is built before");
            disk.resize("1g");
        }
        let next = upgrade.build(&host).unwrap();
        assert_eq!((changes(&next), seen()), (CHANGES.map(str::to_owned).to_vec(), before.clone()), "{tool}");
        assert_eq!(next.missing_scripts, [""; 0], "{tool}");
        next.switch.look().unwrap();
        assert!(!next.switch.is_done(), "{tool}");

        // Somebody installs a package between the plan and the build's end.
        let mut late = upgrade.clone();
        late.build.place.as_mut().unwrap().path.set_file_name("late");
        let info = packages(&site.virtualenv).join("mine-1.0.dist-info");
        fs::create_dir(&info).unwrap();
        fs::write(info.join("METADATA"), "Name: mine\nVersion: 1.0\n").unwrap();
        let error = late.build(&host).unwrap_err();
        assert!(matches!(error, PythonError::ChangedMeanwhile { .. }), "{tool}: {error}");
        fs::remove_dir_all(info).unwrap();
        // To build it again removes nothing of what was live.
        next.switch.perform().unwrap();
        assert!(upgrade.build(&host).unwrap().reused, "{tool}");
        // No installer and no index is needed any more.
        fs::remove_dir_all(&next.staged).unwrap();
        site.transcript();
        for _ in 0..2 {
            next.switch.perform().unwrap();
            assert!(next.switch.is_done(), "{tool}");
            assert_eq!(look(&site.virtualenv), original, "{tool}");
            for (program, version) in [("alpha", "2.0"), ("beta", "1.0"), ("gamma", "3.0"), ("gone", "1.0")] {
                assert_eq!(site.live(program, &[]), format!("{program} {version}"), "{tool}");
            }
        }
        assert_eq!(site.transcript(), "", "{tool}");
        site.live("python", &["-m", "pip", "check"]);
        let again = PipInstall { record: Some(next.record.clone()), ..operation.clone() };
        assert!(matches!(again.plan(&host).unwrap(), Prepared::Unchanged { .. }), "{tool}");

        for _ in 0..2 {
            next.back.perform().unwrap();
            assert_eq!(seen(), before, "{tool}");
        }
        assert_eq!(site.live("alpha", &[]), "alpha 1.0", "{tool}");
        prune(&site.virtualenvs, &site.virtualenv, &[]).unwrap();
        let error = next.back.look().unwrap_err();
        assert!(matches!(error, PythonError::OriginalGone { .. }), "{tool}: {error}");

        // What conda installed is conda's.
        let info = packages(&site.virtualenv).join("alpha-1.0.dist-info");
        let listed = format!("{{\"files\": [\"{}/METADATA\"]}}", info.display());
        fs::write(site.virtualenv.join("conda-meta/alpha-1.0-py_0.json"), listed).unwrap();
        let error = operation.check(&host).unwrap_err().to_string();
        let expected = format!(
            "the requirements would change packages that conda installed in `{}`",
            site.virtualenv.display()
        );
        assert_eq!(error, format!("{expected}: `alpha`"), "{tool}");
        drop(mount);
    }
}
