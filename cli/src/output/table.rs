//! Aligned columns for people.
//!
//! Widths come from the first rows; later rows stream past with these widths, and a value that is
//! wider pushes its row out of line rather than being cut. A value of several lines, such as a plan,
//! takes as many. On a terminal, rows wider than the screen are shown a column per line instead.

use std::io::Write;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use unicode_width::UnicodeWidthStr;

use super::destination::{Destination, Out};
use super::{ResultWriter, TextColumn};

/// How NULL is shown.
const NULL: &str = "NULL";

/// Rows that are held back to learn the widths.
const ROWS_MEASURED: usize = 1000;

/// Whether rows are shown a column per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expanded {
    /// Always.
    On,
    /// Never.
    Off,
    /// When a row is wider than the terminal.
    Auto,
}

/// How a table is drawn.
#[derive(Clone, Copy, Debug)]
pub struct TableStyle {
    /// See there.
    pub expanded: Expanded,
    /// Columns of the terminal, if there is one.
    pub width: Option<usize>,
    /// Whether NULL is dimmed.
    pub color: bool,
}

impl TableStyle {
    /// The style that fits a destination.
    pub fn of(destination: &Destination, expanded: Expanded) -> Self {
        let terminal = destination.is_terminal();
        let width = terminal
            .then(|| {
                console::Term::stdout()
                    .size_checked()
                    .map(|(_, columns)| usize::from(columns))
            })
            .flatten();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Self {
            expanded,
            width,
            color,
        }
    }
}

/// One cell: the lines of its text, or `None` for NULL.
type Cell = Option<Vec<String>>;

/// One result as a table.
pub struct Table {
    out: Out,
    style: TableStyle,
    names: Vec<String>,
    right: Vec<bool>,
    held: Vec<Vec<Cell>>,
    /// The layout, once it is decided.
    layout: Option<Layout>,
    rows: u64,
}

enum Layout {
    Aligned(Vec<usize>),
    Expanded(usize),
}

impl Table {
    /// Begins a result.
    pub fn new(out: Out, schema: &SchemaRef, style: TableStyle) -> Self {
        let names = schema
            .fields()
            .iter()
            .map(|field| visible(field.name()))
            .collect();
        let right = schema
            .fields()
            .iter()
            .map(|field| is_number(field.data_type()))
            .collect();
        Self {
            out,
            style,
            names,
            right,
            held: Vec::new(),
            layout: None,
            rows: 0,
        }
    }

    /// Decides the layout and writes what was held back.
    fn start(&mut self) -> anyhow::Result<()> {
        let mut widths: Vec<usize> = self.names.iter().map(|name| name.width()).collect();
        for row in &self.held {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell_width(cell));
            }
        }
        let total: usize = widths.iter().map(|width| width + 3).sum();
        let too_wide = self.style.width.is_some_and(|screen| total > screen + 1);
        let expanded = match self.style.expanded {
            Expanded::On => true,
            Expanded::Off => false,
            Expanded::Auto => too_wide,
        };
        if expanded {
            let width = self
                .names
                .iter()
                .map(|name| name.width())
                .max()
                .unwrap_or(0);
            self.layout = Some(Layout::Expanded(width));
        } else {
            self.write_header(&widths)?;
            self.layout = Some(Layout::Aligned(widths));
        }
        for row in std::mem::take(&mut self.held) {
            self.write_row(&row)?;
        }
        Ok(())
    }

    fn write_header(&mut self, widths: &[usize]) -> anyhow::Result<()> {
        let mut line = String::new();
        for (index, (name, width)) in self.names.iter().zip(widths).enumerate() {
            line.push_str(if index > 0 { " | " } else { " " });
            // Centred, as psql has it.
            let space = width.saturating_sub(name.width());
            push_padded(&mut line, name, space / 2, space - space / 2);
        }
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        let rule = rule.join("+");
        Ok(writeln!(self.out, "{}\n{rule}", line.trim_end())?)
    }

    fn write_row(&mut self, row: &[Cell]) -> anyhow::Result<()> {
        self.rows += 1;
        match &self.layout {
            Some(Layout::Aligned(widths)) => {
                let height = row.iter().flatten().map(Vec::len).max();
                for at in 0..height.unwrap_or(1).max(1) {
                    let mut line = String::new();
                    for (index, ((cell, width), right)) in
                        row.iter().zip(widths).zip(&self.right).enumerate()
                    {
                        line.push_str(if index > 0 { " | " } else { " " });
                        let (text, taken) = self.painted(cell, at);
                        let space = width.saturating_sub(taken);
                        let (before, after) = if *right { (space, 0) } else { (0, space) };
                        push_padded(&mut line, text, before, after);
                    }
                    writeln!(self.out, "{}", line.trim_end())?;
                }
                Ok(())
            }
            Some(Layout::Expanded(width)) => {
                let width = *width;
                writeln!(self.out, "-[ {} ]{}", self.rows, "-".repeat(width))?;
                for (name, cell) in self.names.iter().zip(row) {
                    for at in 0..cell.as_ref().map_or(1, Vec::len) {
                        let name = if at == 0 { name.as_str() } else { "" };
                        let mut line = String::new();
                        push_padded(&mut line, name, 0, width.saturating_sub(name.width()));
                        let line = format!("{line} | {}", self.painted(cell, at).0);
                        writeln!(self.out, "{}", line.trim_end())?;
                    }
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A line of a cell, and how many columns of the screen it takes.
    fn painted<'c>(&self, cell: &'c Cell, line: usize) -> (&'c str, usize) {
        match cell {
            Some(lines) => {
                let text = lines.get(line).map_or("", String::as_str);
                (text, text.width())
            }
            None if line > 0 => ("", 0),
            None if self.style.color => ("\u{1b}[2mNULL\u{1b}[0m", NULL.len()),
            None => (NULL, NULL.len()),
        }
    }
}

fn cell_width(cell: &Cell) -> usize {
    match cell {
        Some(lines) => lines.iter().map(|line| line.width()).max().unwrap_or(0),
        None => NULL.len(),
    }
}

impl ResultWriter for Table {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let options = FormatOptions::default()
            .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
        let columns = TextColumn::of(batch, &options)?;
        for row in 0..batch.num_rows() {
            let cells = columns
                .iter()
                .map(|column| Ok(column.text(row)?.map(|text| lines(&text))))
                .collect::<anyhow::Result<Vec<Cell>>>()?;
            if self.layout.is_some() {
                self.write_row(&cells)?;
            } else {
                self.held.push(cells);
                if self.held.len() == ROWS_MEASURED {
                    self.start()?;
                }
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        if self.layout.is_none() {
            self.start()?;
        }
        Ok(self.out.flush()?)
    }
}

fn push_padded(line: &mut String, text: &str, before: usize, after: usize) {
    line.extend(std::iter::repeat_n(' ', before));
    line.push_str(text);
    line.extend(std::iter::repeat_n(' ', after));
}

/// The lines of a value. A line break at its end, as plans have one, begins none.
fn lines(text: &str) -> Vec<String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n').map(visible).collect()
}

/// Control characters escaped: they would break the lines, or drive the reader's terminal.
fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

fn is_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_number(value),
        other => other.is_numeric(),
    }
}
