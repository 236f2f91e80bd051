/** A progress bar on stderr: only where a person looks at it, a terminal, and not with NO_COLOR or --json. */
import { fitWidth, printable, textWidth } from "../bytes/printable.js";
import { formatSize } from "../bytes/size.js";

interface Progress {
  /** Bytes. Cheap to call often. */
  update(done: number, total: number): void;
  /** Takes the bar away. */
  end(): void;
}

const WIDTH = 32;
/** Columns that the title keeps at the bar's expense. */
const LEAST_TITLE = 16;
const INTERVAL_MS = 100;

/** Runs `work` with a bar, which is gone before anything else is printed; `work` spreads what it is given into its options. */
export async function withProgress<T>(
  title: string,
  options: { json?: boolean },
  work: (report: { onProgress?: Progress["update"] }) => Promise<T>,
): Promise<T> {
  const bar = progressBar(title, options);
  try {
    return await work(bar ? { onProgress: bar.update } : {});
  } finally {
    bar?.end();
  }
}

/** Undefined where no bar shall be drawn. */
function progressBar(title: string, options: { json?: boolean }): Progress | undefined {
  if (options.json || !process.stderr.isTTY || process.env.NO_COLOR !== undefined) return undefined;
  let drawn = 0;
  return {
    update(done, total) {
      const now = Date.now();
      if (now - drawn < INTERVAL_MS) return;
      drawn = now;
      process.stderr.write(`\r${barLine(title, done, total, process.stderr.columns)}\x1b[K`);
    },
    end() {
      if (drawn > 0) process.stderr.write("\r\x1b[K");
    },
  };
}

/**
 * `clone  ████████░░░░  25%  512 MiB of 2 GiB`, one column less than the terminal has: a line that is wrapped cannot be
 * drawn over. The title is shortened first, then the bar, then the rest.
 */
export function barLine(title: string, done: number, total: number, columns = 80): string {
  const part = total > 0 ? Math.min(1, done / total) : 1;
  const amount = `${Math.floor(part * 100)}%  ${formatSize(done)} of ${formatSize(total)}`;
  const room = columns - 1 - amount.length;
  const shown = shortened(printable(title), Math.max(LEAST_TITLE, room - WIDTH - 4));
  const width = Math.max(0, Math.min(WIDTH, room - textWidth(shown) - 4));
  const full = Math.round(part * width);
  const line = `${shown}  ${"█".repeat(full)}${"░".repeat(width - full)}  ${amount}`;
  return width > 0 ? line : fitWidth(amount, Math.max(0, columns - 1)).trimEnd();
}

/** The end of a name says more than its begin. */
function shortened(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text;
  const characters = [...text];
  while (textWidth(characters.join("")) > columns - 1) characters.shift();
  return `…${characters.join("")}`;
}
