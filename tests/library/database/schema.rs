//! What the schema of a server is told by, and that going back brings it back.

use super::*;

super::on_each_engine! {
    what_was_applied_is_seen_and_reversed,
    what_the_fingerprint_is_made_of,
}

const MORE: &str = "
    migrations.AddField('item', 'price', models.IntegerField(default=1)),
    migrations.AddField('item', 'kind', models.CharField(max_length=9, null=True, choices=[('a', 'A')])),
    migrations.CreateModel('Tag', [
        ('id', models.BigAutoField(primary_key=True)), ('slug', models.SlugField(unique=True)),
        ('item', models.ForeignKey('shop.Item', models.CASCADE)), ('others', models.ManyToManyField('shop.Item', related_name='+')),
        ('sum', models.DecimalField(max_digits=9, decimal_places=2, db_index=True)),
    ]),
    migrations.AddIndex('item', models.Index(fields=['name', '-price'], name='by_name')),
    migrations.AddConstraint('item', models.UniqueConstraint(fields=['name', 'price'], name='once')),
    migrations.AddConstraint('item', models.CheckConstraint(condition=models.Q(name__in=['one', 'two', 'filled']), name='words')),
    migrations.AlterField('item', 'name', models.CharField(max_length=80, db_index=True)),
    migrations.RunSQL('CREATE VIEW shop_names AS SELECT name FROM shop_item', 'DROP VIEW shop_names'),
";

fn what_was_applied_is_seen_and_reversed(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    site.migration("0002_more", "0001_initial", "", MORE);
    site.migration("0003_rows", "0002_more", "", "migrations.RunPython(unfill, fill)");
    let facts = database.facts();
    site.migration(
        "0003_rows",
        "0002_more",
        "",
        "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)",
    );
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    let after = context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap();
    let differences = before.differences(&after);
    let expected: &[&str] = match engine {
        Engine::PostgreSql => &[
            "+ table shop_item: column price integer not null",
            "+ table shop_item: column kind character varying(9) null",
            "+ table shop_item: column name character varying(80) not null",
            "+ table shop_item: unique (name,price",
            "+ table shop_item: check (name=ANYARRAY['one','two','filled']",
            "+ table shop_item: index btree (name,priceDESC)",
            "+ table shop_tag: primary key (id",
            "+ table shop_tag: column id bigint not null identity d",
            "+ table shop_tag: column sum numeric(9,2) not null",
            "+ table shop_tag: foreign key (item_idREFERENCESshop_itemidDEFERRABLEINITIALLYDEFERRED",
        ],
        Engine::MariaDb => &[
            "+ table shop_item: column price int(11) not null",
            "+ table shop_item: column kind varchar(9) null default NULL collate utf8mb4_general_ci",
            "+ table shop_item: unique index btree (name, price)",
            "+ table shop_item: check (`name`in'one','two','filled')",
            "+ table shop_tag: primary key btree (id)",
            "+ table shop_tag: column id bigint(20) not null auto_increment",
            "+ table shop_tag: foreign key (item_id) to shop_item (id) on update RESTRICT on delete RESTRICT",
        ],
    };
    for line in ["+ migration shop.0003_rows", "+ view shop_names"].iter().chain(expected) {
        assert!(differences.iter().any(|found| found.starts_with(line)), "{line}: {differences:#?}");
    }
    for _ in 0..2 {
        restore(&site, &before, false).perform(&mut context).unwrap();
        assert_eq!(context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap(), before);
    }
    assert_same(&facts, &database.facts());
}

/// Every kind of change is seen, whoever made it, and undoing it gives the very same schema.
fn what_the_fingerprint_is_made_of(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    database.sql("CREATE TABLE a (id int PRIMARY KEY, b int, c varchar(9) DEFAULT 'x', d varchar(9))");
    let changes: &[(&str, &str)] = match engine {
        Engine::PostgreSql => &[
            ("ALTER TABLE a ALTER b SET NOT NULL", "ALTER TABLE a ALTER b DROP NOT NULL"),
            ("ALTER TABLE a ALTER c SET DEFAULT 'y'", "ALTER TABLE a ALTER c SET DEFAULT 'x'"),
            ("ALTER TABLE a ALTER b TYPE bigint", "ALTER TABLE a ALTER b TYPE int"),
            ("CREATE INDEX i ON a (b)", "DROP INDEX i"),
            ("CREATE INDEX i ON a (b) WHERE b > 0", "DROP INDEX i"),
            ("CREATE INDEX i ON a (b); CREATE INDEX j ON a (b)", "DROP INDEX i; DROP INDEX j"),
            ("ALTER TABLE a ADD CONSTRAINT k CHECK (b > 0)", "ALTER TABLE a DROP CONSTRAINT k"),
            (
                "ALTER TABLE a ADD CONSTRAINT k FOREIGN KEY (b) REFERENCES a (id)",
                "ALTER TABLE a DROP CONSTRAINT k",
            ),
            ("CREATE SEQUENCE s", "DROP SEQUENCE s"),
            ("CREATE TYPE t AS ENUM ('x', 'y')", "DROP TYPE t"),
            ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION f"),
            ("CREATE VIEW v AS SELECT id FROM a", "DROP VIEW v"),
            ("CREATE SCHEMA other; CREATE TABLE other.a (id int)", "DROP SCHEMA other CASCADE"),
            ("COMMENT ON COLUMN a.b IS 'a word'", "COMMENT ON COLUMN a.b IS NULL"),
            (
                "ALTER TABLE a ALTER d TYPE varchar(9) COLLATE \"C\"",
                "ALTER TABLE a ALTER d TYPE varchar(9) COLLATE \"default\"",
            ),
        ],
        Engine::MariaDb => &[
            ("ALTER TABLE a MODIFY b int NOT NULL", "ALTER TABLE a MODIFY b int"),
            ("ALTER TABLE a ALTER c SET DEFAULT 'y'", "ALTER TABLE a ALTER c SET DEFAULT 'x'"),
            ("ALTER TABLE a MODIFY b bigint", "ALTER TABLE a MODIFY b int"),
            ("CREATE INDEX i ON a (b)", "DROP INDEX i ON a"),
            ("CREATE UNIQUE INDEX i ON a (c(3))", "DROP INDEX i ON a"),
            ("CREATE INDEX i ON a (b); CREATE INDEX j ON a (b)", "DROP INDEX i ON a; DROP INDEX j ON a"),
            ("ALTER TABLE a ADD CONSTRAINT k CHECK (b > 0)", "ALTER TABLE a DROP CONSTRAINT k"),
            (
                "ALTER TABLE a ADD CONSTRAINT k FOREIGN KEY (b) REFERENCES a (id)",
                "ALTER TABLE a DROP CONSTRAINT k, DROP INDEX k",
            ),
            ("CREATE SEQUENCE s", "DROP SEQUENCE s"),
            ("CREATE FUNCTION f() RETURNS int RETURN 1", "DROP FUNCTION f"),
            ("CREATE VIEW v AS SELECT id FROM a", "DROP VIEW v"),
            ("CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.b = 1", "DROP TRIGGER t"),
            ("ALTER TABLE a ENGINE = Aria", "ALTER TABLE a ENGINE = InnoDB"),
            ("ALTER TABLE a MODIFY d varchar(9) COLLATE utf8mb4_bin", "ALTER TABLE a MODIFY d varchar(9)"),
        ],
    };
    let (host, mut session) = (Host::new(), site.boot());
    let before = session.on("default").state(&host).unwrap();
    for (there, back) in changes {
        database.sql(there);
        let changed = session.on("default").state(&host).unwrap();
        assert_ne!(changed.digest, before.digest, "not seen: {there}");
        assert_ne!(before.differences(&changed), Vec::<String>::new(), "not told: {there}");
        database.sql(back);
        assert_eq!(
            before.differences(&session.on("default").state(&host).unwrap()),
            Vec::<String>::new(),
            "{there}"
        );
    }
    // Rows are not looked at, nor what counts them.
    database.sql("INSERT INTO shop_item (name) VALUES ('three')");
    assert_eq!(session.on("default").state(&host).unwrap(), before);
}
