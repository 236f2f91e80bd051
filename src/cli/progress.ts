/** A progress bar on stderr: only where a person looks at it, a terminal, and not with NO_COLOR, --json or --quiet. */
import { formatSize } from "../bytes/size.js";

interface Progress {
  /** Bytes. Cheap to call often. */
  update(done: number, total: number): void;
  /** Takes the bar away. */
  end(): void;
}

const WIDTH = 32;
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
      process.stderr.write(`\r${barLine(title, done, total)}\x1b[K`);
    },
    end() {
      if (drawn > 0) process.stderr.write("\r\x1b[K");
    },
  };
}

/** `clone  ████████░░░░  25%  512 MiB of 2 GiB`. */
export function barLine(title: string, done: number, total: number): string {
  const part = total > 0 ? Math.min(1, done / total) : 1;
  const full = Math.round(part * WIDTH);
  return `${title}  ${"█".repeat(full)}${"░".repeat(WIDTH - full)}  ${Math.floor(part * 100)}%  ${formatSize(done)} of ${formatSize(total)}`;
}
