//! Texts whose number of tokens is known, to hold the estimate against.
//!
//! The texts are our own. The numbers are those of the `o200k_base` vocabulary, counted once with
//! its published encoder, which is not a dependency.
//!
//! This guards against mistakes and does not measure: the weights of Greek, Hebrew, typographic
//! signs and accents were set with these texts in sight. A single sentence may be a quarter off
//! either way where words are rare, and in Arabic, Greek or Hebrew a third; longer texts are not.

/// What it is, the text, and its tokens.
pub(super) const SAMPLES: &[(&str, &str, u64)] = &[
    (
        "English",
        "The ferry leaves the northern pier at half past six, long before the fishermen have \
         sorted their nets. Passengers stand close together on the upper deck, holding paper \
         cups of coffee and watching the harbour lights disappear behind the breakwater. \
         Nobody speaks much at that hour. The captain, an elderly woman with remarkable \
         patience, announces every village by its old name, although the timetable has used \
         the new ones for almost twenty years.",
        84,
    ),
    (
        "Rust",
        r"fn settle(queue: &mut VecDeque<Request>, now: Instant) -> usize {
    let mut expired = 0;
    while let Some(front) = queue.front() {
        if front.deadline > now {
            break;
        }
        queue.pop_front();
        expired += 1;
    }
    expired
}",
        66,
    ),
    (
        "minified JSON",
        r#"{"id":48213,"customer":{"name":"Ada Brook","email":"ada@example.org"},"items":[{"sku":"AX-1009","qty":3,"price":12.75},{"sku":"BT-220","qty":1,"price":199.0}],"paid":true,"created_at":"2026-03-14T09:26:53Z"}"#,
        78,
    ),
    (
        "Chinese",
        "清晨六点半，渡船离开北边的码头，渔民们还没有整理好渔网。乘客们站在上层甲板上，手里拿着纸杯\
         咖啡，看着港口的灯光慢慢消失在防波堤后面。这个时候很少有人说话。你好！请帮我写一封邮件，告\
         诉客户我们的新产品将在下个月发布，价格比去年低百分之十。如果他们有任何问题，可以随时联系我\
         们的客服团队。谢谢你的支持，我们期待与您合作。人工智能正在改变我们的生活和工作方式。许多公\
         司使用大型语言模型来回答用户的问题、分析数据以及生成代码。然而，这项技术也带来了隐私和安全\
         方面的挑战，需要政府和企业共同解决。天气很好，孩子们在海边的公园里玩耍。政府宣布了经济和教\
         育方面的新措施，许多专家认为这些措施将在未来几年内产生积极影响。",
        212,
    ),
    (
        "Japanese",
        "フェリーは六時半に北の桟橋を出ます。乗客は上の甲板に立って、コーヒーを飲みながら港の明かり\
         を眺めています。この時間に話す人はほとんどいません。お客様に手紙を書いて、新しいバージョン\
         のプログラムが来月発売されることを知らせてください。質問があれば、いつでもご連絡いただけま\
         す。",
        103,
    ),
    (
        "Russian",
        "Паром отходит от северного причала в половине седьмого, задолго до того, как рыбаки \
         разберут свои сети. Пассажиры стоят на верхней палубе и смотрят, как огни гавани \
         исчезают за волнорезом. Пожалуйста, напишите письмо клиенту и сообщите, что новая \
         версия программы выйдет в следующем месяце. Если у него возникнут вопросы, он может \
         обратиться в службу поддержки в любое время. Искусственный интеллект меняет нашу \
         жизнь и работу. Многие компании используют большие языковые модели, чтобы отвечать \
         на вопросы пользователей и анализировать данные. Сегодня очень хорошая погода, и \
         дети играют в парке недалеко от моря. Правительство объявило о новых мерах в \
         области экономики и образования.",
        166,
    ),
    (
        "French",
        "Le ferry quitte le quai nord à six heures et demie, bien avant que les pêcheurs \
         n'aient trié leurs filets. Les passagers restent serrés sur le pont supérieur, un \
         café à la main, et regardent les lumières du port disparaître derrière la jetée. \
         Veuillez écrire une lettre au client et lui annoncer que la nouvelle version du \
         programme sortira le mois prochain. S'il a des questions, il peut nous contacter à \
         tout moment.",
        96,
    ),
    (
        "German",
        "Die Fähre verlässt den nördlichen Anleger um halb sieben, lange bevor die Fischer \
         ihre Netze sortiert haben. Die Fahrgäste stehen dicht gedrängt auf dem Oberdeck und \
         sehen zu, wie die Lichter des Hafens hinter der Mole verschwinden. Bitte schreiben \
         Sie dem Kunden einen Brief und teilen Sie ihm mit, dass die neue Version des \
         Programms nächsten Monat erscheint. Bei Fragen kann er sich jederzeit an uns wenden.",
        88,
    ),
    (
        "Spanish",
        "El transbordador sale del muelle norte a las seis y media, mucho antes de que los \
         pescadores hayan ordenado sus redes. Los pasajeros esperan de pie en la cubierta y \
         miran cómo desaparecen las luces del puerto.",
        47,
    ),
    (
        "Greek",
        "Το πλοίο φεύγει από τη βόρεια προβλήτα στις έξι και μισή, πολύ πριν οι ψαράδες \
         τακτοποιήσουν τα δίχτυα τους. Παρακαλώ γράψτε ένα μήνυμα στον πελάτη και πείτε του \
         ότι η νέα έκδοση του προγράμματος θα κυκλοφορήσει τον επόμενο μήνα. Αν έχει \
         ερωτήσεις, μπορεί να επικοινωνήσει μαζί μας. Ο καιρός σήμερα είναι πολύ καλός και \
         τα παιδιά παίζουν στο πάρκο κοντά στη θάλασσα. Η κυβέρνηση ανακοίνωσε νέα μέτρα για \
         την οικονομία και την εκπαίδευση.",
        140,
    ),
    (
        "Hebrew",
        "המעבורת יוצאת מהרציף הצפוני בשש וחצי, הרבה לפני שהדייגים מסדרים את הרשתות שלהם. \
         בבקשה כתוב הודעה ללקוח ואמור לו שהגרסה החדשה של התוכנה תצא בחודש הבא. אם יש לו \
         שאלות, הוא יכול לפנות אלינו בכל זמן. מזג האוויר היום נעים מאוד והילדים משחקים בפארק \
         ליד הים. הממשלה הודיעה על צעדים חדשים בתחום הכלכלה והחינוך.",
        110,
    ),
    (
        "Arabic",
        "تغادر العبارة الرصيف الشمالي في السادسة والنصف، قبل وقت طويل من أن يرتب الصيادون \
         شباكهم. من فضلك اكتب رسالة إلى العميل وأخبره أن النسخة الجديدة من البرنامج ستصدر في \
         الشهر القادم. إذا كانت لديه أي أسئلة فيمكنه التواصل معنا في أي وقت. الطقس اليوم \
         جميل جدا والأطفال يلعبون في الحديقة قرب البحر. أعلنت الحكومة عن إجراءات جديدة في \
         مجال الاقتصاد والتعليم.",
        96,
    ),
    (
        "Hindi",
        "नौका सुबह साढ़े छह बजे उत्तरी घाट से निकलती है, मछुआरों के जाल समेटने से बहुत पहले। \
         कृपया ग्राहक को एक पत्र लिखें और बताएं कि कार्यक्रम का नया संस्करण अगले महीने जारी \
         होगा। यदि उनके कोई प्रश्न हैं, तो वे कभी भी हमसे संपर्क कर सकते हैं।",
        70,
    ),
    (
        "Thai",
        "เรือข้ามฟากออกจากท่าเรือด้านเหนือตอนหกโมงครึ่ง \
         ก่อนที่ชาวประมงจะเก็บอวนเสร็จกรุณาเขียนจดหมายถึงลูกค้าและแจ้งว่าโปรแกรมรุ่นใหม่จะออกในเดือนหน้า \
         หากมีคำถามสามารถติดต่อเราได้ตลอดเวลาอากาศวันนี้ดีมากและเด็กๆ เล่นอยู่ในสวนใกล้ทะเล \
         รัฐบาลประกาศมาตรการใหม่ด้านเศรษฐกิจและการศึกษา",
        111,
    ),
    (
        "Korean",
        "페리는 여섯 시 반에 북쪽 부두를 떠납니다. 승객들은 갑판 위에 서서 커피를 마시\
         며 항구의 불빛을 바라봅니다. 고객에게 편지를 써서 새로운 버전의 프로그램이 다음 \
         달에 출시된다고 알려 주세요. 질문이 있으면 언제든지 저희에게 연락할 수 있습니\
         다. 오늘은 날씨가 매우 좋고 아이들이 바닷가 근처 공원에서 놀고 있습니다. 정부\
         는 경제와 교육 분야의 새로운 대책을 발표했습니다.",
        115,
    ),
    (
        "typographic signs",
        "“Well,” she said — “that’s what I’d call ‘late’…” • one • two • three → done ✓ \
         “Yes,” he said. “It’s the best we’ve got — isn’t it?” She didn’t answer… • First • \
         Second – and that’s all → next.",
        61,
    ),
    (
        "Vietnamese",
        "Phà rời bến phía bắc lúc sáu giờ rưỡi, rất lâu trước khi ngư dân phân loại lưới của \
         họ. Hành khách đứng sát nhau trên boong và nhìn ánh đèn của bến cảng. Hãy viết một \
         bức thư cho khách hàng và thông báo rằng phiên bản mới của chương trình sẽ ra mắt \
         vào tháng sau. Nếu có câu hỏi, họ có thể liên hệ với chúng tôi bất cứ lúc nào.",
        98,
    ),
    (
        "Polish and Czech",
        "Prom odpływa z północnego nabrzeża o wpół do siódmej, na długo zanim rybacy \
         posortują swoje sieci. Pasażerowie stoją na górnym pokładzie i patrzą, jak światła \
         portu znikają. Napisz proszę list do klienta i poinformuj go, że nowa wersja \
         programu ukaże się w przyszłym miesiącu. Jeśli będzie miał pytania, może się z nami \
         skontaktować w każdej chwili. Napište prosím zákazníkovi dopis a oznamte mu, že \
         nová verze programu vyjde příští měsíc. Pokud bude mít dotazy, může se na nás \
         kdykoli obrátit. Pogoda jest dziś bardzo ładna i dzieci bawią się w parku niedaleko \
         morza. Rząd ogłosił nowe działania w dziedzinie gospodarki i edukacji. Počasí je \
         dnes velmi pěkné a děti si hrají v parku nedaleko řeky. Vláda oznámila nová \
         opatření v oblasti hospodářství a vzdělávání.",
        246,
    ),
    (
        "an answer in English",
        "Sure! Here are three ideas for your weekend: visit the farmers' market early, take \
         the coastal trail up to the lighthouse, or stay home and finally repair that old \
         bicycle. If it rains, the museum has free admission on Sundays.",
        48,
    ),
    (
        "Python",
        r#"def merge(left, right):
    """Merge two sorted lists into one."""
    result = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]"#,
        87,
    ),
    (
        "Portuguese",
        "O tempo hoje está muito bom e as crianças brincam no parque perto do mar. O governo \
         anunciou novas medidas para a economia e a educação.",
        29,
    ),
    (
        "Turkish",
        "Bugün hava çok güzel ve çocuklar deniz kenarındaki parkta oynuyor. Hükümet ekonomi \
         ve eğitim alanında yeni önlemler açıkladı.",
        35,
    ),
];
