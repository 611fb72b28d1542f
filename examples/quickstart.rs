//! Builds the demo site, lets it serve, and updates it while visitors read and write.
#![expect(dead_code, reason = "the demo site is shared with tests and benches, which use more of it")]

#[path = "demo_site/mod.rs"]
mod demo_site;

use demo_site::{DemoSite, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::Builder::new().prefix("demo-site").tempdir()?;
    println!("Building a Django site in {}", folder.path().display());
    let mut site = DemoSite::create(folder.path(), &Options::new("python3"))?;
    site.start()?;
    println!("It serves release {} at http://{}/", site.release().unwrap_or_default(), site.front_address);
    let visitor = site.visit().writing().start();
    site.publish_release_2()?;
    site.add_secret(demo_site::NEW_SECRET, "a-pinch-of-salt")?;
    println!("A visitor: {}", visitor.finish());
    site.stop();
    Ok(())
}
