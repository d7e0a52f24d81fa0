//! The library inside a shared library that another program loads: a clear error, and the host is not executed again.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{example_file, isolated, python};

/// Loads the plugin and calls it. Each start of it leaves a byte in a file, so that a second one would be seen.
const HOST: &str = r#"
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    FILE *starts = fopen(argv[2], "a");
    fputc('x', starts);
    fclose(starts);
    void *plugin = dlopen(argv[1], RTLD_NOW);
    if (!plugin) { fprintf(stderr, "%s\n", dlerror()); return 70; }
    int (*call)(int, char *, size_t) = (int (*)(int, char *, size_t))dlsym(plugin, "procession_plugin_call");
    if (!call) { fprintf(stderr, "%s\n", dlerror()); return 71; }
    for (int what = 0; what < 4; what++) {
        char text[4096] = "";
        int code = call(what, text, sizeof text);
        printf("%d: %s\n", code, text);
    }
    return 0;
}
"#;

/// The same in Python, a host of another kind.
const PYTHON_HOST: &str = r#"
import ctypes, sys
with open(sys.argv[2], "a") as starts:
    starts.write("x")
plugin = ctypes.CDLL(sys.argv[1])
for what in range(4):
    text = ctypes.create_string_buffer(4096)
    code = plugin.procession_plugin_call(what, text, ctypes.c_size_t(len(text)))
    print(f"{code}: {text.value.decode()}")
"#;

/// Runs a host, which calls the plugin in four ways; each is refused by name, and the host has run once.
#[track_caller]
fn assert_refused(host: &mut Command, starts: &Path) {
    let output = host
        .arg(example_file("plugin", "libplugin.so"))
        .arg(starts)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{:?}: {text}", output.status);
    assert_eq!(text.lines().count(), 4, "{text}");
    for line in text.lines() {
        // 1 is what the plugin says for `ErrorKind::NotInMainImage`.
        assert!(line.starts_with("1: ") && line.contains("libplugin.so"), "{text}");
    }
    assert_eq!(fs::read_to_string(starts).unwrap(), "x", "the host was executed again");
    fs::remove_file(starts).unwrap();
}

/// T178 (TestNoForkBomb.test_noforkbomb): where no child could take over, nothing is executed that would do the same again.
#[test]
fn shared_library_in_a_c_program_is_told_that_it_cannot_start_processes() {
    isolated(|| {
        let folder = env::temp_dir();
        let (source, host) = (folder.join("host.c"), folder.join("host"));
        fs::write(&source, HOST).unwrap();
        let built = Command::new("cc").arg("-o").arg(&host).arg(&source).arg("-ldl").status();
        fs::remove_file(source).unwrap();
        if built.is_err() {
            return eprintln!("notice: there is no C compiler here, this test is skipped");
        }
        assert!(built.unwrap().success());
        assert_refused(&mut Command::new(&host), &folder.join("starts"));
        // A marker and a socket of somebody else make no difference: nothing takes over inside `dlopen`.
        assert_refused(Command::new(&host).env("PROCESSION_START", "1"), &folder.join("starts"));
        fs::remove_file(host).unwrap();
    });
}

#[test]
fn shared_library_in_python_is_told_that_it_cannot_start_processes() {
    isolated(|| {
        let Some(python) = python() else { return };
        let starts = env::temp_dir().join("starts");
        assert_refused(Command::new(python).args(["-c", PYTHON_HOST]), &starts);
    });
}
