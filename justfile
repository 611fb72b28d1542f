# Names for what contributors run. Each recipe is one command, which can be typed without `just` too.

# List the recipes
default:
    @{{ just_executable() }} --list --unsorted

# Run everything that CI runs
check:
    .ci/run

# Run the tests, or those that the arguments of `cargo test` choose; `--fast` needs only git and Python
test *arguments:
    tests/run {{ arguments }}

# Check the shell scripts, this file, the workflows, and the Python
python:
    tests/python

# Check the Ansible collection, and update three hosts at once; `--faults 60` lets more go wrong
ansible *arguments:
    tests/ansible {{ arguments }}

# Check licences, sources and bans of the crates, and known vulnerabilities
dependencies:
    tests/dependencies

# Fuzz every parser of foreign bytes for some seconds, or the targets that are named
fuzz seconds="60" *targets:
    fuzz/run {{ seconds }} {{ targets }}

# Measure updates, or the parts that are named; `--markdown` writes docs/measurements.md
bench *arguments:
    benches/run {{ arguments }}

# Build the book of docs/ into target/book/
book:
    book/build

# Build the packages into dist/out: wheel, Debian package, tarball, SBOM, checksums
dist:
    dist/build

# Build the packages again, elsewhere, and compare them
reproduce:
    dist/reproduce

# Install each package into bare systems, and update a site there; as root
try-packages *suites:
    dist/try {{ suites }}
