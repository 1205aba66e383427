"""The words that the answer parser knows; eval.scoring.parse gives the rules in which the lists are used."""

# One list a kind of word; compounds of listed words (并不是, 这条评论, 总体来说) need no entry. VERDICT words may
# surround a label in a verdict; GAP words may only stand between a negation and its label; TURN words end a negation;
# OTHER words hide a word of another kind inside them; OUTSIDE are verdicts that most tasks do not have as a label.
WORDS = {
    "negation": """不 非 没 没有 未 无 毫无 无法 否 否认 难以 很难 难说 谈不上 说不上 称不上 算不上 够不上 看不出
        看不到 缺乏 缺少 排除 与其 不了 不起 没法 未必 怎能 怎会 怎么会 怎么可能 岂能 岂是 谁会 难令 难让 难使 难称 难言
        not never neither nor no non without hardly cannot nothing lacks unlikely
        rather·than instead·of less·than far·from anything·but not·so""",
    "condition": "如果 假如 假设 若 倘若 要是 除非 if whether unless",
    "or": "还是 或 或者 或是 or / vs",
    "and": "和 与 及 以及 、 and &",
    "turn": "而 但 不过 然而 却 不如 因此 所以 因而 故 but yet however so therefore thus hence",
    "verdict": """这 这里 该 此 本 上述 以上 它 其 我 我们 您 条 则 段 篇 份 句 个 种 一 评论 评价 点评 影评 短评
        评论者 用户 顾客 客人 客户 作者 酒店 宾馆 商品 产品 电影 新闻 文章 标题 文本 句子 话 内容 留言 反馈 情感
        情绪 态度 倾向 色彩 基调 极性 观点 看法 意见 分析 分类 类别 类型 类 标签 结果 答案 回答 答 选项 选 选择 判断
        判定 结论 的 了 地 是 为 属 属于 于 应 应该 应当 可以 可 可能 能 会 将 被 归 归类 划分 视为 看作 看做 认为
        认定 觉得 偏 偏向 趋于 整体 总体 上 总 总之 综上 所述 综合 考虑 看 来 说 来看 来说 而言 由此可见 可见 最终
        最后 根据 显然 明显 确实 肯定 一定 无疑 毫无疑问 不可否认 不得不 不难 当然 大概 或许 也许 基本 主要 以 为主
        比较 较 较为 很 非常 十分 相当 更 更加 极 极其 极为 太 大 够 算 性 呈 呈现 表达 表现 体现 传达 反映 带有
        具有 具备 持 即 就 也 都 并 仍 仍然 请 嗯 那么 既 an a the this that it its it's i we my is are was be been
        to as of in on one review comment feedback text sentence hotel customer's guest's sentiment polarity tone
        attitude opinion emotion answer label class category option choice verdict conclusion final overall
        generally mostly mainly clearly definitely likely probably very quite highly think believe say would can
        could should seems seem appears appear expresses expressing classified categorized labeled labelled
        considered classify leans leaning toward towards based given choose chosen yes ok sure output result
        response""",
    "gap": """提到 提及 任何 什么 明确 直接 完全 简单 单纯 纯粹 绝对 真正 足够 太多 多少 出 出现 包含 含有 存在 看到
        看出 发现 涉及 使用 给出 传递 意味着 说明 表明 代表 证明 等于 等同 特别 怎么 这么 所谓 全 所有 有 某 到 过
        一些 一点 半点 丝毫 过多 过于 强烈 严重 得 给人 带来 造成 产生 引起 引发 让人 感到 见到 信息 文字 上下文 any
        really entirely purely exactly necessarily too all completely at mention contain much anything particularly
        being have has do does""",
    "question": "吗",
    "other": """正面临 正面朝 正面向 正面迎 正面对着 正面对大 正面对海 正面交锋 正面冲突 正面相撞 正负面 正反面 反正
        公正 不仅 不但 不只 不光 不断 不少 不错 不满 不悦 不佳 不爽 不良 不幸 了不起 对不起 差不多 没错 无奈 无语
        无聊 若干 除了 否则 不能不 无论 不论""",
    "outside": "中性 中立 neutral mixed",
    "stop": "因为 由于 because since",
}
