/** Progress for a person at a terminal, on one line that is rewritten; nothing at all when piped. */
import type { CommandIo } from './command.ts';

const REFRESH_MS = 100;

export interface ProgressLine {
  show(label: string, doneBytes: number, totalBytes?: number): void;
  /** Clears the line, so that what follows begins at the left edge. */
  end(): void;
}

export function progressLine(stderr: CommandIo['stderr'], now: () => number): ProgressLine {
  if (stderr.isTTY !== true) return { show() {}, end() {} };
  let label = '';
  let startedMs = 0;
  let shownMs = Number.NEGATIVE_INFINITY;
  return {
    show(newLabel, doneBytes, totalBytes) {
      const nowMs = now();
      if (newLabel !== label) {
        label = newLabel;
        startedMs = nowMs;
      } else if (nowMs - shownMs < REFRESH_MS && doneBytes !== totalBytes) return;
      shownMs = nowMs;
      stderr.write(`\r\x1b[K${describe(label, doneBytes, totalBytes, (nowMs - startedMs) / 1000)}`);
    },
    end() {
      if (label !== '') stderr.write('\r\x1b[K');
      label = '';
    },
  };
}

/** For example "sealing  62%  620.0 MB of 1.0 GB  1.2 GB/s  0:12 left". */
export function describe(
  label: string,
  doneBytes: number,
  totalBytes: number | undefined,
  seconds: number,
): string {
  const perSecond = seconds > 0 ? doneBytes / seconds : 0;
  const parts = [label];
  if (totalBytes !== undefined && totalBytes > 0) {
    parts.push(`${Math.floor((100 * doneBytes) / totalBytes)}%`.padStart(4));
  }
  parts.push(totalBytes === undefined ? bytes(doneBytes) : `${bytes(doneBytes)} of ${bytes(totalBytes)}`);
  if (perSecond > 0) parts.push(`${bytes(perSecond)}/s`);
  if (perSecond > 0 && totalBytes !== undefined)
    parts.push(`${clock((totalBytes - doneBytes) / perSecond)} left`);
  return parts.join('  ');
}

/** Decimal units, as disks and networks are sold. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const tail = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${tail}` : `${minutes}:${tail}`;
}
