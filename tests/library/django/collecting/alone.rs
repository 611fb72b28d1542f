//! The operation alone, without an update around it.

use deploykit::operations::django_manage::{DjangoManage, Task};
use deploykit::operations::{self, Operation};
use deploykit::{Check, Context};

use super::*;

#[test]
fn the_operation_alone_can_be_undone() {
    let Some(site) = site(MANIFEST) else { return };
    live(&site);
    let before = (listing(&site.path("www/static")), site.read("www/static/shop/site.css"));
    let collect = DjangoManage::new(site.project.clone(), Task::CollectStatic { clear: When::Auto });
    assert!(matches!(collect.check(&Host::new()).unwrap(), Check::Unchanged { .. }));

    site.write("shop/static/shop/site.css", "body { color: red }");
    let Check::Change(planned) = collect.check(&Host::new()).unwrap() else { panic!("a file has changed") };
    assert!(!site.path("www/.static.deploykit-next").exists(), "a check leaves nothing");
    let mut context = Context::default();
    let Check::Change(change) = operations::apply(&collect, &mut context).unwrap() else { panic!() };
    assert_eq!(change.reason, planned.reason);
    assert_eq!(site.read("www/static/shop/site.css"), "body { color: red }");
    operations::undo(&change, &mut context).unwrap();
    assert_eq!((listing(&site.path("www/static")), site.read("www/static/shop/site.css")), before);
}
