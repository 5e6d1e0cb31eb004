/** Pictures drawn in the page itself. Colours come from classes of style.css, so that they follow light, dark and print. */
import { type Content, type Html, html } from './html.ts';

export interface Picture {
  /** In user units; the picture is never shown larger than this, and shrinks with its column. */
  readonly width: number;
  readonly height: number;
  /** What somebody is told who does not see it. */
  readonly label: string;
  /** A class beside "picture", for example "wide-only" or "narrow-only". */
  readonly className?: string;
}

export function picture({ width, height, label, className = '' }: Picture, content: Content): Html {
  return html`<svg class="${`picture ${className}`.trim()}" role="img" aria-label="${label}" width="${width}" height="${height}" viewBox="${`0 0 ${width} ${height}`}">${content}</svg>`;
}

/** A number as SVG takes it, without the digits that nobody sees. */
export function unit(value: number): string {
  if (!Number.isFinite(value)) throw new TypeError('a place in a picture is a number');
  return String(Math.round(value * 100) / 100);
}

export function line(x1: number, y1: number, x2: number, y2: number, className: string): Html {
  return html`<line class="${className}" x1="${unit(x1)}" y1="${unit(y1)}" x2="${unit(x2)}" y2="${unit(y2)}"/>`;
}

export function path(d: string, className: string): Html {
  return html`<path class="${className}" d="${d}"/>`;
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export function box({ x, y, width, height }: Box, className: string, radius = 8): Html {
  return html`<rect class="${className}" x="${unit(x)}" y="${unit(y)}" width="${unit(width)}" height="${unit(height)}" rx="${unit(radius)}"/>`;
}

export function dot(x: number, y: number, radius: number, className: string): Html {
  return html`<circle class="${className}" cx="${unit(x)}" cy="${unit(y)}" r="${unit(radius)}"/>`;
}

/** `className` may hold "start", "middle" or "end" for where the text is held. */
export function text(x: number, y: number, content: Content, className = ''): Html {
  return html`<text class="${className}" x="${unit(x)}" y="${unit(y)}">${content}</text>`;
}
