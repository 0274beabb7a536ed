/** Numbers as people read them: about three significant digits, the unit in the column's head. */

const MIB = 1024 * 1024;

/** Three significant digits and never an exponent: `0.123`, `1.23`, `12.3`, `123`, `1234`. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'NaN' : value > 0 ? '∞' : '−∞';
  const size = Math.abs(value);
  return value.toFixed(size === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3);
}

/** Mebibytes. */
export function formatMib(bytes: number): string {
  return formatNumber(bytes / MIB);
}

/** Bytes in the unit that fits: `812 B`, `1.50 KiB`, `97.8 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, Math.abs(bytes))) / 10)));
  return `${step === 0 ? String(bytes) : formatNumber(bytes / 1024 ** step)} ${units[step]}`;
}

/** `99.8 %`; hundred and zero without decimals. */
export function formatPercent(percent: number): string {
  return `${percent === 100 || percent === 0 ? String(percent) : percent.toFixed(1)} %`;
}

/** A ratio as a change: `+5.2 %`, `−0.3 %`, `0.0 %`. */
export function formatChange(ratio: number): string {
  if (!Number.isFinite(ratio)) return 'n/a';
  const text = Math.abs((ratio - 1) * 100).toFixed(1);
  return `${text === '0.0' ? '' : ratio > 1 ? '+' : '−'}${text} %`;
}

/** `2.31×`. */
export function formatSpeedup(ratio: number): string {
  return `${ratio.toFixed(2)}×`;
}

/** `1 case`, `2 cases`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Text in lines of at most `width`, broken between words; a longer word has a line of its own. */
export function foldWords(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
