// What generated pages have in common.

/** A page with its title and the line that says where to change it. */
export function page(title, source, parts) {
  const note = `<!-- Made by \`npm run docs\` from ${source}. Change it there. -->`;
  return `${[`# ${title}`, note, ...parts].join("\n\n")}\n`;
}

export function table(head, rows) {
  const line = (cells) =>
    `| ${cells
      .map((cell) =>
        String(cell)
          .replaceAll("|", "\\|")
          .replace(/\s*\n\s*/g, " "),
      )
      .join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** The anchor that GitHub gives a heading. */
export function anchor(heading) {
  return heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, "")
    .replaceAll(" ", "-");
}
