"""The ways in which people and models write the same mathematical answer, and near misses.

One pair a line, `gold | answer`. All are decided by exact arithmetic, without sympy.
"""

import pytest

from verifiers.judge import judge
from verifiers.spec import parse_spec

SAME = r"""
1/2 | 0.5
\frac{1}{2} | .5
\frac{1}{2} | 0.50
\dfrac{1}{2} | 1/2
\tfrac{3}{4} | 0.75
3\frac{1}{2} | 3.5
3\frac{1}{2} | 7/2
3 1/2 | \frac{7}{2}
-3\frac{1}{2} | -3.5
-\frac{1}{2} | \frac{-1}{2}
-\frac{1}{2} | \frac{1}{-2}
-\frac12 | -.5
18 | $18
18 | \$18.00
18 | 18 dollars
18 | 18.00 dollars
18.50 | $18.5
1,000,000 | 1000000
1000000 | 1 000 000
1000000 | 10^6
1000000 | 1e6
1000000 | 1 \times 10^6
1000000 | 1{,}000{,}000
1000000 | 1\,000\,000
1000000 | 1\ 000\ 000
1000000 | 1'000'000
1234.5 | 1,234.5
\$1,234.50 | 1234.5
25\% | 25%
25\% | 0.25
25\% | 1/4
25\% | 25 percent
25\% | 25 \text{ percent}
12.5\% | 1/8
60^\circ | 60
60^\circ | 60°
60^\circ | 60 degrees
60^{\circ} | 60 \text{ degrees}
\frac{\pi}{3} | π/3
\frac{\pi}{3} | \pi/3
\frac{\pi}{3} | \frac{1}{3}\pi
2\pi | 2π
2\pi | 6.283185307
\sqrt{2} | 2^{1/2}
\sqrt{2} | 2^{0.5}
\sqrt{2} | \sqrt2
\sqrt{2} | sqrt(2)
\sqrt{2} | √2
\sqrt{50} | 5\sqrt{2}
3\sqrt{2} | 3 \cdot \sqrt{2}
3\sqrt{2} | 3*sqrt(2)
3\sqrt{2} | 3√2
\frac{\sqrt{3}}{3} | \frac{1}{\sqrt{3}}
\sqrt[3]{8} | 2
\sqrt[3]{-8} | -2
\frac{2}{\sqrt{3}-1} | \sqrt{3}+1
(1,2) | (1, 2)
(1,2) | \left(1,2\right)
(1,2) | \big(1,2\big)
(\frac12, 3) | (0.5, 3)
[0,1] | \left[0, 1\right]
[0, \infty) | \left[0, \infty\right)
[0,\infty) | [0, +\infty)
(-\infty, 0) | (-\infty,0)
(-\infty, 0) | x<0
[0,\infty) | x \geq 0
[0,\infty) | x ≥ 0
[0,\infty) | x >= 0
(-\infty, 2] | x \le 2
x \le 2 | x <= 2
-1 < x < 3 | (-1,3)
-1 \le x < 3 | [-1,3)
(-1,3) | -1<x<3
x \in (-1,3) | -1 < x < 3
\{1,2,3\} | \{3,2,1\}
\{1,2,3\} | {1,2,3}
\{1,2,3\} | 1,2,3
\{1,2,3\} | 3, 1, and 2
1,2,3 | 1, 2, 3
1, 2 | x=1, x=2
1, 2 | x = 1 \text{ or } x = 2
1, 2 | x=1 and x=2
1, 2 | x = 1, 2
x=1, x=2 | 1, 2
x=1,2 | 1,2
x = 5 | 5
5 | x=5
5 | x = 5.
y = 2x + 1 | y=1+2x
y = 2x+1 | 2x+1
y = 2x + 1 | y = 2(x+0.5)
x^2+y^2=25 | y^2 + x^2 = 25
x^2+y^2=25 | x^2+y^2-25=0
y=\frac{1}{2}x | y=x/2
y = \frac{x}{2} | y = 0.5x
f(x)=x^2 | x^2
f(x) = 2x+3 | f(x)=3+2x
(x+1)(x-1) | x^2-1
x^2-1 | (x-1)(x+1)
(x-1)^3 | x^3-3x^2+3x-1
\frac{x+1}{x-1} | (x+1)/(x-1)
\frac{1}{x} | x^{-1}
a^2+2ab+b^2 | (a+b)^2
6xy | 6yx
2x | x\cdot 2
2x | 2*x
-x+1 | 1-x
3! | 6
10! | 3628800
\binom{10}{3} | 120
\ln 2 | \ln(2)
e^{i\pi} | -1
e^{i\pi} | -1+0i
-1 | e^{i\pi}
-1 | e^{\pi i}
i | e^{i\pi/2}
e^{\frac{i\pi}{3}} | \frac{1}{2}+\frac{\sqrt3}{2}i
1+2i | 2i+1
1+2i | 1 + 2 i
1+2i | 1+2\mathrm{i}
(1+i)^2 | 2i
\frac{1}{1+i} | \frac{1-i}{2}
|3-4i| | 5
|-5| | 5
0.\overline{3} | 1/3
0.\overline{3} | \frac13
0.\overline{142857} | 1/7
0.\dot{3} | 1/3
0.\bar{3} | 1/3
0.333... | 1/3
1.1\overline{6} | 7/6
\frac{1}{3} | 0.333333333
\frac{2}{3} | 0.6666667
\infty | +\infty
\infty | infinity
-\infty | -infinity
\infty | \text{infinity}
3:4 | 3/4
3:4 | 3 : 4
3:4 | 3 to 4
3:4 | 3\text{ to }4
3/4 | 3:4
10:30 | 10:30
10:30 \text{ AM} | 10:30 a.m.
3:00 PM | 3 PM
5 \text{ cm} | 5 cm
5 \text{ cm} | 5\,\text{cm}
5 \text{ cm} | 5\mathrm{~cm}
5 \text{ cm} | 5~\text{cm}
5 \text{ cm} | 5 \mathrm{cm}
12 \text{ cm}^2 | 12 cm^2
12 \text{ cm}^2 | 12 sq cm
12 \text{ cm}^2 | 12\text{ cm}^{2}
12 \text{ cm}^2 | 12 cm²
12\text{ square units} | 12
12 | 12\text{ square units}
60 \text{ miles per hour} | 60 mph
60 \text{ mph} | 60 miles/hour
60 \text{ km/h} | 60 km/hr
5 \text{ hours} | 5 hrs
5 \text{ hours} | 5
5 | 5 hours
20 | 20 apples
20 | 20 apples.
20 | 20\text{ apples}
\text{Monday} | Monday
\text{Yes} | yes
\text{yes} | Yes.
Yes | yes
\text{True} | true
\text{(B)} | B
\text{B} | (B)
B | \textbf{(B)}
\text{B} | \text{(B)}
(B) | B
\mathrm{B} | B
\text{even} | even
\text{no solution} | No solution
\text{No solution} | \text{no solutions}
\emptyset | \varnothing
\emptyset | \{\}
\emptyset | \text{empty set}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{bmatrix}1&2\\3&4\end{bmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1.0 & 2 \\ 3 & \frac{8}{2} \end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \left[\begin{array}{cc}1&2\\3&4\end{array}\right]
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \left(\begin{matrix}1&2\\3&4\end{matrix}\right)
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | [[1,2],[3,4]]
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | (1,2)
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \\ \end{pmatrix}
\langle 1,2,3\rangle | (1,2,3)
1010_2 | 1010_{2}
1010_2 | 1010_{\text{two}}
A3_{16} | a3_{16}
A3_{16} | \text{A3}_{16}
2341_5 | 2341_{5}
2341_5 | 2341_\text{five}
3.0 \times 10^8 | 3e8
3.0 \times 10^8 | 300000000
3 \times 10^{-5} | 0.00003
3\cdot10^{-5} | 3 × 10⁻⁵
6.02\times10^{23} | 6.02 \cdot 10^{23}
2^{100} | 1267650600228229401496703205376
2^{10} | 1024
4^{5} | 2^{10}
2^{-3} | 1/8
(-2)^3 | -8
-2^2 | -4
x^{1/2} | \sqrt{x}
\frac{a}{b} | a/b
\frac{3}{4}x | 0.75x
\frac{n(n+1)}{2} | \frac{n^2+n}{2}
\pm 3 | 3, -3
\pm 3 | -3, 3
\pm 3 | -3 \text{ and } 3
x=\pm 3 | x = 3, -3
x=\pm 3 | \pm 3
2 \pm \sqrt{3} | 2+\sqrt3, 2-\sqrt3
1 \pm i | 1+i, 1-i
\{1 \pm i\} | \{1+i, 1-i\}
(3, -1) | (3,-1)
(x,y)=(3,-1) | (3,-1)
(3,-1) | (x, y) = (3, -1)
(3,-1) | x=3, y=-1
x=3, y=-1 | (3,-1)
(1,2),(3,4) | (3,4),(1,2)
(1,2), (3,4) | (1,2) \text{ and } (3,4)
\frac{9}{19} | 9/19
\frac{9}{19} | \frac{18}{38}
\frac{9}{19} | \dfrac{9}{19}
.5 | \frac{1}{2}
0 | 0.0
0 | -0
-7 | - 7
-7 | (-7)
7 | +7
7 | 7.
7 | 7.0
7 | \text{7}
7 | \mathrm{7}
7 | \mathbf{7}
7 | {7}
7 | $7$
7 | \(7\)
7 | \[7\]
7 | **7**
7 | \fbox{7}
7 | =7
7 | 14/2
7 | \displaystyle 7
2/3 \text{ cup} | 2/3
70 \sqrt{2} | 70\sqrt2
\$36 | 36
36 | \text{\$36}
36 | 36 USD
36 | USD 36
36 | €36
36 | 36€
36 | £36
36 | Rs. 36
50 cents | 50
0.5 | \$0.50
\text{June } 5 | June 5
\text{June 5} | \text{June }5
1\frac{3}{4} | 1.75
1\frac{3}{4} | 1 \frac{3}{4}
1\frac{3}{4} | 1\tfrac34
1 \frac{3}{4} \text{ cups} | 1.75 cups
2x+3y=6 | 3y = 6-2x
\frac{1}{2}(x+1) | \frac{x+1}{2}
(2+\sqrt{3})(2-\sqrt3) | 1
\frac{e-1}{e} | 1-\frac1e
\frac{e-1}{e} | 1-e^{-1}
4n+1 | 1+4n
\mathbb{R} | (-\infty,\infty)
(-\infty,\infty) | \mathbb{R}
\mathbb{R} | \text{all real numbers}
n\pi, n\in\mathbb{Z} | n\pi
x^2 \text{ and } -x^2 | -x^2, x^2
\text{A, B, D} | A,B,D
A,B,D | D, B, A
ABC | ABC
\overline{AB} | AB
\angle ABC | ABC
90 | 90^{\circ}
100^\circ\text{C} | 100°C
37^\circ C | 37 °C
0.1 | 1/10
1.0e-3 | 0.001
0.001 | 10^{-3}
.0001 | 1 \times 10^{-4}
5.0 | 5
3/5 | \frac{6}{10}
3/5 | 60\%
2 \frac{1}{2} | 2+\frac{1}{2}
8\pi \text{ cm}^3 | 8π cm³
8\pi | 8 \pi \text{ cubic inches}
8 \text{ m/s}^2 | 8 m/s^2
8\ \text{m}\,\text{s}^{-2} | 8 m/s^2
\frac{1+\sqrt{5}}{2} | 1.6180339887
\frac{-1+\sqrt{5}}{2} | \frac{\sqrt5-1}{2}
-\frac{\sqrt3}{2} | -\sqrt{3}/2
-\frac{\sqrt3}{2} | -\sqrt{\frac{3}{4}}
\sqrt{\frac{3}{4}} | \frac{\sqrt3}{2}
\sqrt{0.25} | 0.5
17 \pmod{20} | 17
\frac{1}{2} | \frac 1 2
\frac{1}{2} | \frac{ 1 }{ 2 }
\frac{1}{2} | (1)/(2)
\frac{1}{2} | \left(\frac{1}{2}\right)
\frac{1}{2} | \frac{1}{2}\,
\frac{1}{2} | ½
2\frac{1}{2} | 2½
\frac{x}{2} | \frac{1}{2} x
\frac{4}{3}\pi r^3 | \frac{4\pi r^3}{3}
\frac{4}{3}\pi r^3 | 4/3 πr³
\sqrt{2}/2 | 0.70710678
x^{2}y | yx^2
\frac{a^2-b^2}{a-b} | a+b
\frac{1}{1-x} | -\frac{1}{x-1}
(x-3)^2+(y+2)^2=16 | (y+2)^2+(x-3)^2=4^2
y-3=2(x-1) | y=2x+1
x^2 - 5x + 6 = 0 | x^2+6=5x
x = -2 \text{ or } x = 3 | x=3,-2
x\in\{-2,3\} | \{3,-2\}
x\in\{-2,3\} | x = -2, 3
-2, 3 | \{-2, 3\}
-2,3 | x_1 = -2, x_2 = 3
-2,3 | x_1=3, x_2=-2
[-2,3] | -2\leq x\leq 3
[-2,3] | -2 ≤ x ≤ 3
[-2,3] | x\in[-2,3]
(-\infty,3] | x\leqslant 3
(2,\infty) | \{x \mid x > 2\}
(2,\infty) | \{x : x>2\}
(2,\infty) | \{x \in \mathbb{R} \mid x>2\}
x \neq 2 | x ≠ 2
x \neq 2 | x != 2
(-3,-1)\cup[2,5) | [2,5) \cup (-3,-1)
(-3,-1)\cup[2,5) | -3<x<-1 \text{ or } 2 \le x < 5
[0,1) | [0, 1[
(0,1) | ]0,1[
\text{Infinitely many} | infinitely many
\text{infinitely many solutions} | infinitely many solutions
0.25 | .25
0.25 | 1/4
0.25 | 25\%
-0.5 | -\frac{1}{2}
1.5 | 1\frac12
1.5 | \frac{3}{2}
42 | 42.0000
42 | 42.
42 | \boxed{42}
42 | \, 42 \,
42 | {}42
42 | 42\ \text{people}
42 | 42~\text{people}
42 | 42 people in total
42 | \$42
42 | 42\$
42 | 42\text{ dollars}
42 | 42^{\circ}
42 | 4.2\times10^{1}
42 | 4.2e1
42 | 84/2
42 | 6\cdot7
42 | 6 \times 7 = 42
42 | x = 42
42 | x=42\text{ cm}
42 | \text{Total} = 42
42 | \text{Total: } 42
42 | n = 42
42 | \angle A = 42^\circ
42 | \angle ABC = 42
42 | m\angle A = 42^\circ
42 | AB = 42
42 | \overline{AB} = 42
42 | |AB| = 42
42 | P(x) = 42
42 | f(3) = 42
42 | f(3)=42
42 | a_{10} = 42
42 | S = 42
42 | x \approx 42
42 | \approx 42
42 | \text{about } 42
42 | approximately 42
42 | \sqrt{1764}
42 | 42!/41!
1/42 | \frac{41!}{42!}
1\,234\,567 | 1234567
1{,}234{,}567 | 1,234,567
1234567 | 1,234,567
1234567 | 1 234 567
1234567 | 1.234.567
1234567.89 | 1.234.567,89
1234567 | 12,34,567
1234567.5 | 1,234,567.50
100000 | 1,00,000
10\% | 0.10
10\% | 10.0\%
10\% | \frac{10}{100}
0.1 | 10\%
33\frac{1}{3}\% | 33 1/3%
33\frac{1}{3}\% | \frac{1}{3}
\frac{1}{3} | 33\frac{1}{3}\%
16\frac{2}{3}\% | 1/6
\$4.50 | 4.50
\$4.50 | 4.5 dollars
4.5 | \$4.50
3600 \text{ seconds} | 3600 s
3600 | 3600 seconds
90\text{ minutes} | 90 min
12\pi \text{ cm} | 12\pi cm
12\pi \text{ cm} | 12 \pi
12\pi | 37.69911184
36\pi | 36 π
5\sqrt{3} \text{ cm} | 5√3 cm
5\sqrt3 | 5\sqrt{3}\text{ units}
5 \text{ units}^2 | 5 square units
5\text{ ft}^3 | 5 cubic feet
5 \text{ ft/s} | 5 feet per second
0.5 \text{ kg} | 0.5 kilograms
3 \text{ m} | 3 meters
3 \text{ m} | 3m
3 \text{ cm} | 3cm
75 \text{ mph} | 75 miles per hour
\text{9:30 AM} | 9:30 AM
9:30 \text{ a.m.} | 09:30 AM
3:4:5 | 3 : 4 : 5
1:2 | 1 : 2
1:2 | 1/2
e^2 | e^{2}
e^2 | e \cdot e
\sqrt{e} | e^{1/2}
\frac{1}{e} | e^{-1}
e^{-2}+1 | 1+\frac{1}{e^2}
2+3i | 3i+2
2+3i | (2+3i)
-i | \frac{1}{i}
i^{2023} | -i
(1+i)^8 | 16
\frac{3+4i}{5} | \frac35+\frac45 i
\sqrt{-9} | 3i
|1+i| | \sqrt2
2e^{i\pi/6} | \sqrt3+i
\begin{bmatrix}\frac12&0\\0&1\end{bmatrix} | \begin{bmatrix}0.5&0\\0&1\end{bmatrix}
\begin{pmatrix}1\\-2\\3\end{pmatrix} | \begin{bmatrix} 1 \\ -2 \\ 3 \end{bmatrix}
\begin{pmatrix}-7\\16\\5\end{pmatrix} | (-7, 16, 5)
\begin{pmatrix}1&2\end{pmatrix} | \begin{pmatrix} 1 & 2 \end{pmatrix}
(0,0),(1,1) | (1,1),(0,0)
(0,0),(1,1) | \{(0,0),(1,1)\}
(1,2,3) | (1, 2, 3)
(r,\theta)=(3,\pi/2) | (3,\frac{\pi}{2})
\left(3,\frac{\pi}{2}\right) | (3, π/2)
\{2,4,6\} | \{6, 4, 2\}
\{(1,2),(2,1)\} | (2,1),(1,2)
\{\} | \emptyset
\{x\} | \{ x \}
2x^2+3x-5 | (2x+5)(x-1)
(2x+5)(x-1) | (x-1)(2x+5)
x^3-6x^2+11x-6 | (x-1)(x-2)(x-3)
x(x+1) | x^2+x
-(x-1) | 1-x
\frac{2x+4}{2} | x+2
3x^{-2} | \frac{3}{x^2}
\sqrt{8x} | 2\sqrt{2x}
\sqrt[4]{16} | 2
\sqrt[3]{2} | 2^{1/3}
\sqrt[3]{54} | 3\sqrt[3]{2}
\sqrt{\frac{1}{2}} | \frac{\sqrt2}{2}
\frac{5}{\sqrt{5}} | \sqrt5
\frac{1+\sqrt5}{2} | \frac12+\frac{\sqrt5}{2}
11_{10} | 11
1101_2 | (1101)_2
1101_2 | 1101_{2}
1101_2 | 1101 base 2
FF_{16} | ff_{16}
FF_{16} | 0FF_{16}
\text{FF}_{16} | FF_{16}
4^{10} | 2^{20}
2^{3^2} | 512
(2^3)^2 | 64
-3^2 | -9
10^{-3} | 0.001
7! | 5040
\dbinom{8}{3} | 56
P | P
\frac{dy}{dx} = 2x | 2x
y' = 2x | 2x
2x + C | 2x+C
x^2+C | C+x^2
\ln|x|+C | C+\ln|x|
\frac{x^3}{3} + C | \frac{1}{3}x^3+C
\text{(C)} | C
\text{C} | \mathrm{(C)}
\textbf{(C)}\ 42 | C
\textbf{(C)} | \text{C}
\text{Yes, it is} | yes it is
\text{odd} | Odd
\text{Red} | red
\text{John} | John
\text{3 apples} | 3
3 | \text{3 apples}
\text{Friday} | \text{ Friday }
\text{Friday} | Friday.
\text{east} | \text{East}
\text{neither} | Neither
1 \text{ and } 2 | 1, 2
1, 2, \text{ and } 3 | 1, 2, 3
1\frac{1}{2}, 2 | 1.5, 2
2, -2 | \pm 2
\pm 2 | 2,-2
\pm\sqrt{3} | \sqrt3, -\sqrt3
-1 \pm 2i | -1+2i, -1-2i
\frac{-1 \pm \sqrt{5}}{2} | \frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}
\pm 1, \pm 2 | 1,-1,2,-2
\frac{\pi}{4}+n\pi | n\pi+\frac{\pi}{4}
k\pi, k \in \mathbb{Z} | k\pi
O(n\log n) | O(n \log n)
n^2 | n \cdot n
\alpha+\beta | \beta+\alpha
\lambda^2-1 | (\lambda-1)(\lambda+1)
\theta = \frac{\pi}{4} | \frac{\pi}{4}
\mu | \mu
x^\circ | x
180^\circ - 2x | 180-2x
1.23\times 10^{-4} | 0.000123
1.23\times 10^{-4} | 1.23E-4
1.23\times 10^{-4} | 1.23 * 10^-4
1.23\times 10^{-4} | 1.23 × 10^(-4)
\frac{22}{7} | 3.142857142857
\frac{22}{7} | 3.\overline{142857}
\frac{22}{7} | 3\frac{1}{7}
.0625 | \frac{1}{16}
0.0625 | 2^{-4}
12.5 | 12 \frac{1}{2}
-1\frac{1}{2} | -1.5
-1\frac{1}{2} | -\frac{3}{2}
\frac{0}{5} | 0
\frac{10}{2} | 5
\frac{3}{2}\text{ hours} | 1.5 hours
2/3 | \frac{2}{3} \approx 0.667
2/3 | 0.666666667
\frac{2}{3} \approx 0.667 | 2/3
1+\frac{1}{2}+\frac14 | \frac{7}{4}
50\pi-100 | 50(\pi-2)
2^{1/2}\cdot 2^{1/2} | 2
\{ -1, 0, 1 \} | \{0, 1, -1\}
(-1)^n | (-1)^{n}
\frac{(-1)^n}{n} | (-1)^n/n
a_n = 2n+1 | 2n+1
a_n=2n+1 | a_n = 1+2n
"""
DIFFERENT = r"""
1/2 | 0.51
1/2 | 2
\frac12 | \frac13
0.333 | 1/3
1/3 | 0.33
1/3 | 0.333
\frac{10^{50}+1}{3} | \frac{10^{50}}{3}
12345678901234567890 | 12345678901234567891
0.1234567890123456789 | 0.1234567890123456788
1-1/e | 1+1/e
1-\frac1e | 1+\frac1e
1011_2 | 11
1011_2 | 1011_3
1011_2 | 1011
11 | 1011_2
123_5 | 38
38 | 123_5
5 cm | 5 m
5 cm | 5 cm^2
5 cm^2 | 5 cm^3
5 m/s | 5 m/s^2
5 m/s | 5 km/h
5 hours | 5 minutes
5\text{ kg} | 5\text{ lb}
5 \text{ cm}^{-1} | 5\text{ cm}
(1,2) | \{1,2\}
\{1,2\} | (1,2)
(1,2) | [1,2]
(1,2) | (2,1)
(1,2] | [1,2)
[1,2] | (1,2]
1,2 | (1,2)
50 | 50\%
50\% | 50
0.5 | 0.5\%
5\% | 0.5
5\% | 5.0
0.05\% | 5\%
A | a
b | B
\text{(A)} | a
x | X
x^2 | X^2
x=5 | x=-5
(3,4) | x=4,y=3
1,2 | 1,2,3
1,2,3 | 1,2
1,1,2 | 1,2
\{1,2\} | \{1,2,2,3\}
x^2-1 | x^2+1
x^2-1 | (x-1)^2
2^{10} | 1023
\sqrt{2} | 1.4142
\sqrt2 | 1.414
\pi | 3.14
\pi | 22/7
\pi | 355/113
2\pi | \pi
e | 2.718
\frac{x+1}{x-1} | \frac{x-1}{x+1}
x<2 | x\le 2
x \ge 2 | (2,\infty)
(2,\infty) | x \ge 2
(-1,3) | -1 \le x < 3
(-1,3) | -1 < x < 4
3:4 | 4:3
3:4 | 34
10:30 AM | 10:30 PM
10:30 | 10.5
3:00 PM | 3 AM
-3 | 3
3\frac12 | \frac{31}{2}
3\frac12 | 3/2
3\frac12 | 1.5
1 1/2 | 11/2
1,234 | 1.234
1.234 | 1234
1,234 | 1, 234
\pm 3 | 3
3 | \pm 3
\pm 3 | -3
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&3\\2&4\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&2&3&4\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1&2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \{1,2\}
1+2i | 1-2i
1+2i | 2+i
i | -i
e^{i\pi} | 1
\text{Monday} | Tuesday
\text{yes} | no
\text{yes} | not yes
\text{even} | odd
\text{no solution} | 0
\emptyset | \{0\}
\emptyset | 0
0 | \emptyset
10! | 10
5! | 5
\binom{10}{3} | \binom{10}{4}
\binom{10}{3} | \frac{10}{3}
x^2 | 2x
x_2 | x^2
x_1 | x_2
a/b | b/a
12 | 1.2e2
12 | 21
12 | 12.5
12 | 12!
12 | 3 \cdot 5
12 | 13 - 2
12 | 12x
12x | 12
y=2x+1 | y=2x-1
f(x)=x^2 | f(x)=x^3
0.1 | 0.01
0.\overline{3} | 0.3
0.\overline{36} | 0.36
0.3\overline{6} | 0.\overline{36}
1000 | 1,000,0
100000 | 1,00,001
\$18 | 18 cents
18 | 18\%
3 \times 10^8 | 3 \times 10^7
3 \times 10^8 | 3^8
10^{100} | 10^{101}
10^{100} | 10^{100}+1
9^{9^9} | 9^{9^8}
2^{1000000} | 2^{1000001}
\frac{1}{10^{30}} | 0
10^{-30} | 0
10^{-30} | 10^{-31}
\frac{10^{20}+1}{10^{20}} | 1
0.9999999999 | 1
0.99999999999999999999 | 1
1.0000000001 | 1
\frac{22}{7} | \pi
\frac{\sqrt2}{2} | \frac12
7 \pmod{12} | 7 \pmod{13}
A,B,D | A,B
A,B,D | A,B,C
ABC | ACB
\text{A} | B
n\pi | \pi
100^\circ C | 100^\circ F
60^\circ | 60\%
60^\circ | \pi/3
5 dollars | 5 cents
5 | 5 x
5 | x
5 | x=6
5 | 5=6
5 | 6=5
1 | 1=2=1
\frac{1}{2} | \frac{2}{1}
(2,3) | 2<x<4
[2,3] | 2<x<3
x<3 | x<-3
x \ne 2 | x = 2
\{x: x>2\} | \{x : x \ge 2\}
42 | 42.5
42 | 4.2
42 | 420
42 | 42 or 43
42 | 42, 43
42 | 41 < x < 43
42 | x > 41
42 | \ge 42
42 | >42
42 | 42x
42 | 42+x
42 | 42\%
42 | 0.42
42 | 42 \times 10
42 | 42^2
42 | 42_8
42 | 52_8
42 | -42
42 | \pm 42
42 | not 42
42 | \text{not } 42
42 | \neq 42
42 | x \neq 42
42 | 42 \text{ or } 43
42 | \{41,42\}
42 | (42,42)
42 | 42/2
42 | 42i
42 | 42e
42 | 42e2
42 | 42\pi
42 | \sqrt{42}
42 | |42|x
42 | 42 = 43
42 | 43 = 42
42 | x+1=42
42 | 2x=42
42 | f(x)=42x
42 | \text{Monday}
42 | NaN
42 | 42 \approx 43
42 | 42.0001
42 | 41.99999999
1234567 | 1,234,568
1234567 | 123,456,7
1234567 | 1.234567
1234567.89 | 1.234.567
1.5 | 15
1.5 | 1,5
1.234 | 1,234
10\% | 10
10\% | 0.01
10\% | 1\%
33\frac13\% | 33\%
33\frac13\% | 0.33
1/3 | 33\%
\$4.50 | 4.05
\$4.50 | 450
\$4.50 | 4.50 cents
4.50 | 4.50\%
3 m | 3 cm
3 m | 3 km
3 m | 3 m^2
3 kg | 3 g
3 \text{ cm}^2 | 3 \text{ in}^2
3 \text{ mph} | 3\text{ km/h}
3 mph | 3 mps
90\text{ minutes} | 90 hours
90\text{ minutes} | 90 seconds
9:30 AM | 9:30 PM
9:30 AM | 9:03 AM
9 AM | 9 PM
5 pm | 5 am
3:4:5 | 3:5:4
1:2 | 2:1
1:2 | 12
1:2 | 1.2
1:2 | 0.2
2:3 | 2/3 + 1
e^{2} | 2e
e^{i\pi/2} | -i
e^{i\pi/3} | \frac{\sqrt3}{2}+\frac12 i
2+3i | 3+2i
2+3i | 2-3i
2+3i | 5i
|3+4i| | 7
|3+4i| | 3+4i
i^2 | 1
\sqrt{-9} | 3
\sqrt{-9} | -3i
\sqrt{9} | -3
\sqrt{9} | \pm 3
\sqrt[3]{-8} | 2
\begin{pmatrix}1&0\\0&1\end{pmatrix} | \begin{pmatrix}0&1\\1&0\end{pmatrix}
\begin{pmatrix}1&0\\0&1\end{pmatrix} | 1
\begin{pmatrix}1&2\\3&4\end{pmatrix} | [[1,3],[2,4]]
\begin{pmatrix}1&2\\3&4\end{pmatrix} | [1,2,3,4]
\begin{pmatrix}1&2\\3&4\end{pmatrix} | -2
\begin{pmatrix}1\\2\\3\end{pmatrix} | (1,3,2)
(0,0),(1,1) | (0,1),(1,0)
(0,0),(1,1) | (0,0,1,1)
(1,2,3) | (1,2)
(1,2,3) | \{1,2,3\}
(1,2,3) | 1,2,3
1,2,3 | (1,2,3)
(2,1) | x=1,y=2
(2,1) | x=2,y=2
\{2,4,6\} | \{2,4\}
\{2,4,6\} | \{2,4,6,8\}
\{2,4,6\} | [2,4,6]
\emptyset | \{\emptyset\}
2x^2+3x-5 | 2x^2+3x+5
(x+1)^2 | x^2+1
\frac{x^2-1}{x-1} | x-1
\frac{1}{x+y} | \frac1x+\frac1y
\sqrt{8x} | 2\sqrt{x}
\frac{1+\sqrt5}{2} | \frac{1-\sqrt5}{2}
\frac{1+\sqrt5}{2} | 1.618
\frac{1+\sqrt5}{2} | 1.618034x
1101_2 | 1101_{10}
1101_2 | 13
1101_2 | 1011_2
FF_{16} | 255
12_3 | 12_4
2^{3^2} | 64
-3^2 | 9
(-3)^2 | -9
7! | 7
\frac{8!}{5!} | 56
\binom{8}{3} | \frac{8}{3}
\binom83 | \binom{8}{2}
x^2+C | x^2
x^2 | x^2+C
2x+C | 2x+D
\text{(C)} | D
\text{C} | c
C | \text{(B)}
\textbf{(C)}\ 42 | 43
\text{odd} | even
\text{odd} | not odd
\text{Yes} | \text{Yes and no}
\text{Yes} | No
\text{Red} | Blue
\text{neither} | either
\text{increasing} | \text{decreasing}
\text{John} | Joan
1,2 | 1,2,2
1,2 | 1.2
1,2 | 12
1,2 | 1
\pm 2 | 2
\pm 2 | \pm 3
1\pm 2i | 1+2i
k\pi | 2k\pi
\frac{\pi}{4}+n\pi | \frac{\pi}{4}+2n\pi
n\pi, n\in\mathbb{Z} | n\pi/2
\alpha | \beta
\theta | 0
1.23\times10^{-4} | 1.23 \times 10^{4}
1.23\times10^{-4} | 1.23
\frac{22}{7} | 3.14
2/3 | 0.67
2/3 | 0.666
2/3 | \frac{2}{3} \approx 0.7x
2/3 | \frac{1}{3} \approx 0.333
10^{10^{10}} | 10^{10^{11}}
2^{64} | 2^{64}-1
\frac{1}{998001} | 0.000001
100!  | 100!+1
1000! | 1000!+1
1000! | 999!
3^{1000} | 3^{1000}+1
123456789012345678901234567890/7 | 123456789012345678901234567891/7
0.30000000000000004 | 0.3
0.1+0.2 | 0.30000000000000004
1-10^{-20} | 1
\frac{d}{dx} x^2 | x^2
7 \pmod{12} | 5 \pmod{12}
x \equiv 3 \pmod 5 | 3x
"""
HOSTILE = (
    "(" * 3_000 + "7" + ")" * 3_000, "{" * 900 + "7" + "}" * 900, "\\frac{" * 300 + "7" + "}{1}" * 300,
    "9^{9^9}", "2^{2^{2^{2^{2}}}}", "1e999999999", "(x+y+z+w)^{100}", "(x+1)^{10000}", "7!!!!!!!!",
    "\\binom{10^9}{5\\cdot10^8}", "0." + "12" * 900 + "...", "1'" * 900, "x<" * 900 + "1",
    "x<1 or " * 250 + "x<2", "(1," * 300 + "1" + ")" * 300, ",".join("7" * 900), "7+" * 900 + "0.5",
    "\\pm" * 600, "[" * 900, "|" * 1_500, "\\text{" * 280 + "7" + "}" * 280,
)  # fmt: skip


def pairs(table: str) -> list[tuple[str, str]]:
    return [
        (gold, answer)
        for gold, _, answer in (row.partition(" | ") for row in table.split("\n"))
        if gold
    ]


@pytest.mark.parametrize(
    ("table", "right"), [(SAME, True), (DIFFERENT, False)], ids=["same", "different"]
)
def test_every_pair_is_judged_as_labelled(table: str, right: bool):
    mistakes: list[tuple[str, str]] = []
    for gold, answer in pairs(table):
        verdict = judge(parse_spec({"kind": "math", "answer": gold}), f"\\boxed{{{answer}}}")
        assert "method" not in verdict.evidence, (gold, answer)
        if (verdict.status == "correct") != right:
            mistakes.append((gold, answer))
    assert mistakes == []


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer[:12])
def test_hostile_notation_is_never_correct(answer: str):
    for gold in ("7", "(1,2)", "x+1", "\\text{no}"):
        verdict = judge(parse_spec({"kind": "math", "answer": gold}), f"\\boxed{{{answer}}}")
        assert verdict.status in ("wrong", "malformed")
