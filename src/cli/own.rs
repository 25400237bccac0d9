//! What the program says of itself to shells and to `man`.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Exit;
use super::output;
use crate::plan::Failure;

#[derive(Debug, Args)]
pub(super) struct Completion {
    /// For which shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write all pages into this folder, instead of printing that of k3arm itself
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Completion {
    pub(super) fn run(self, mut command: Command) -> Exit {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "k3arm", &mut script);
        output::print(&String::from_utf8_lossy(&script));
        Exit::Done
    }
}

impl Man {
    pub(super) fn run(self, command: Command) -> Exit {
        let written = match &self.folder {
            Some(folder) => write(command, folder).map(|()| format!("wrote the pages to {}\n", folder.display())),
            None => page(command),
        };
        match written {
            Ok(text) => {
                output::print(&text);
                Exit::Done
            }
            Err(error) => {
                let what = self.folder.map_or("the page".into(), |folder| folder.display().to_string());
                let message = format!("{what} could not be written: {error}");
                output::failures(&[Failure { host: None, message, hint: None }], Exit::Failed)
            }
        }
    }
}

fn page(command: Command) -> std::io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write(command: Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}
