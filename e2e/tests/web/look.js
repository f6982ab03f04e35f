// What every page must be, whoever looks at it and with what. Answers with what is wrong.
const done = arguments[arguments.length - 1];
const wrong = [];
const check = (good, words) => good || wrong.push(words);
const all = (selector) => [...document.querySelectorAll(selector)];
const isSeen = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest('.away, .skip');
const seen = (selector) => all(selector).filter(isSeen);
const say = (element) => `<${element.localName}${element.id ? ` id=${element.id}` : ''}> ${element.textContent.trim().slice(0, 30)}`;

// The document: its language, its name, its parts.
check(document.documentElement.lang === 'en', 'no language');
check(/^\S.* · Touchstone$/.test(document.title), `title: ${document.title}`);
check(document.querySelector('link[rel=icon]'), 'no icon');
check(seen('main').length === 1 && seen('header').length === 1, 'not one main and one header');
check(seen('nav').every((nav) => nav.ariaLabel), 'a nav without a name');
check(all('[role=alert]').length === 1 && all('[role=status]').length === 1, 'no place for complaints, or for news');
const headings = seen('h1, h2, h3, h4');
check(headings.filter((heading) => heading.localName === 'h1').length === 1, 'not one h1');
check(headings[0]?.localName === 'h1', 'the first heading is no h1');
check(seen('main > section').length === 1, 'not one section');
check(document.title === `${seen('h1')[0]?.textContent} · Touchstone`, 'the title is not the heading');

// Names of everything that can be used, and what they refer to.
const ids = all('[id]').map((element) => element.id);
check(new Set(ids).size === ids.length, 'an id twice');
for (const attribute of ['for', 'aria-labelledby', 'aria-describedby']) {
  for (const element of all(`[${attribute}]`)) {
    for (const id of element.getAttribute(attribute).split(' ')) check(document.getElementById(id), `${attribute}=${id} leads nowhere`);
  }
}
for (const input of seen('input')) {
  const labels = [...input.labels];
  check(labels.length === 1 && isSeen(labels[0]) && labels[0].textContent.trim(), `no label: ${input.id}`);
}
for (const element of seen('button, a')) check((element.ariaLabel ?? element.textContent).trim(), `no name: ${say(element)}`);
for (const image of seen('img, svg')) check(image.hasAttribute('alt') || image.ariaLabel, `no name: ${say(image)}`);

// What is pressed is large enough for a thumb (WCAG 2.5.8), and nothing runs out of the window.
for (const element of seen('button, input')) {
  const { width, height } = element.getBoundingClientRect();
  check(height >= 20 && width >= 20 && (height >= 44 || element.labels?.[0]?.getBoundingClientRect().height >= 24), `small: ${say(element)} ${width} × ${height}`);
}
const root = document.documentElement;
check(root.scrollWidth <= root.clientWidth, `wider than the window: ${root.scrollWidth} of ${root.clientWidth}`);

// Contrast (WCAG 1.4.3 for text, 1.4.11 for the lines of fields and buttons).
const parse = (color) => {
  const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
  return { rgb: [r, g, b], a };
};
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const { rgb, a } = parse(getComputedStyle(at).backgroundColor);
    if (a === 1) return rgb;
    check(a === 0, `half transparent: ${say(at)}`);
  }
  return [255, 255, 255];
};
const contrast = (one, other) => {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !isSeen(element) || element.closest('noscript, :disabled')) continue;
  const { color, fontSize } = getComputedStyle(element);
  const ratio = contrast(parse(color).rgb, behind(element));
  check(ratio >= 4.5, `contrast ${ratio.toFixed(2)}: ${say(element)}`);
  check(parseFloat(fontSize) >= 13, `small print: ${say(element)}`);
}
for (const element of seen('button, input:not([type=radio], [type=checkbox])')) {
  if (element.disabled || element.classList.contains('plain')) continue;
  const ratio = contrast(parse(getComputedStyle(element).borderTopColor).rgb, behind(element.parentElement));
  check(ratio >= 3, `line ${ratio.toFixed(2)}: ${say(element)}`);
}

// Nothing jumped while the page came up (Web Vitals: good is at most 0.1). Reports come with the next task.
let shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
}).observe({ type: 'layout-shift', buffered: true });
setTimeout(() => {
  check(shift <= 0.1, `layout shift ${shift.toFixed(3)}`);
  done(wrong);
}, 0);
