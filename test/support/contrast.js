/**
 * Runs in a page (browser.ts): contrast as WCAG 2.2 defines it, between the colour of a text or a sign and what is
 * painted under its middle. Gives what has too little of it, and how much was measured.
 */
(() => {
  const rgb = (colour) => {
    const [r = 0, g = 0, b = 0, alpha = 1] = (colour.match(/[\d.]+/g) ?? []).map(Number);
    if (!colour.startsWith('rgb') || alpha === 0) return undefined;
    if (alpha !== 1) throw new Error(`half transparent: ${colour}`);
    return [r, g, b];
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((channel) => {
      const value = channel / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].toSorted((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  /** The colour of what is painted below the element at a point. */
  const under = (element, x, y) => {
    const stack = document.elementsFromPoint(x, y);
    const own = stack.indexOf(element);
    if (own === -1) return undefined; // scrolled out of its box
    const inSvg = element instanceof SVGElement;
    for (const below of stack.slice(inSvg ? own + 1 : own)) {
      const style = getComputedStyle(below);
      const svg = below instanceof SVGElement && !(below instanceof SVGSVGElement);
      const found = rgb(
        svg ? (below instanceof SVGTextElement ? 'none' : style.fill) : style.backgroundColor,
      );
      if (found !== undefined) return found;
    }
    return [255, 255, 255];
  };

  const faint = [];
  let measured = 0;
  /** What is under a point can be asked for inside the window alone. */
  const judge = (what, colour, element, boxOf, least) => {
    let box = boxOf();
    if (box === undefined || box.width === 0) return;
    if (box.y < 0 || box.bottom > innerHeight) {
      scrollTo(0, scrollY + box.y - innerHeight / 2);
      box = boxOf();
    }
    const foreground = rgb(colour);
    const background = under(element, box.x + box.width / 2, box.y + box.height / 2);
    if (foreground === undefined || background === undefined) return;
    measured++;
    const ratio = contrast(foreground, background);
    if (ratio < least) faint.push(`${ratio.toFixed(2)} < ${least}: ${what.trim().slice(0, 60)}`);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    if (element === null || node.textContent?.trim() === '') continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const style = getComputedStyle(element);
    const sizePx = Number.parseFloat(style.fontSize);
    const large = sizePx >= 24 || (sizePx >= 18.66 && Number(style.fontWeight) >= 700);
    const inSvg = element instanceof SVGElement;
    judge(
      node.textContent,
      inSvg ? style.fill : style.color,
      element,
      () => range.getClientRects()[0],
      large ? 3 : 4.5,
    );
  }
  for (const sign of document.querySelectorAll('.sign > *')) {
    const style = getComputedStyle(sign);
    const colour = style.fill === 'none' ? style.stroke : style.fill;
    judge(
      `sign ${sign.parentElement?.getAttribute('aria-label')}`,
      colour,
      sign,
      () => sign.getBoundingClientRect(),
      3,
    );
  }
  return { faint, measured };
})();
